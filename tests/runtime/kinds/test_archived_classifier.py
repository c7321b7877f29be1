"""The same scores as torchvision's transforms and the network alone, image for image."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image as PillowImage
from torchvision import transforms

from models.archives.classifier import is_classifier
from models.archives.open import open_archive
from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor
from runtime.inputs import Image
from runtime.kinds.archived_classifier import open_archived_classifier
from tests.archived import index_to_name, make_archive

REFERENCE = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
IMAGES, BATCH = 200, 20
SIZES = ((224, 224), (320, 240), (240, 400), (500, 375), (231, 233), (640, 427), (1200, 800), (180, 150))
FORMATS = (("JPEG", 90), ("JPEG", 60), ("PNG", 0), ("WEBP", 80), ("JPEG", 98))


@pytest.fixture(scope="module")
def images():
    """Encoded images: blobs and noise of several sizes and formats."""
    chance = np.random.default_rng(0)
    made = []
    for size, (kind, quality) in itertools.islice(
        itertools.cycle(itertools.product(SIZES, FORMATS)), IMAGES
    ):  # every pair five times
        cells = int(chance.integers(3, 40))
        blobs = PillowImage.fromarray(chance.integers(0, 256, (cells, cells, 3), np.uint8)).resize(size)
        pixels = np.asarray(blobs) * chance.uniform(0.2, 1.0) + chance.normal(0, 12, (size[1], size[0], 3))
        stream = io.BytesIO()
        PillowImage.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(stream, kind, quality=quality)
        made.append(stream.getvalue())
    return made


@pytest.fixture(scope="module")
def network(images):
    """A network with random weights that tells images apart: its normalisation fits them, logits are far apart."""
    torch.manual_seed(0)
    made = torchvision.models.shufflenet_v2_x0_5(weights=None)
    for module in made.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        made.fc.weight *= 20
        made.train()(torch.stack([reference(each) for each in images[:BATCH]]))
    return made.eval()


def reference(data):
    return REFERENCE(PillowImage.open(io.BytesIO(data)).convert("RGB"))


def test_200_images_have_the_scores_and_the_five_best_labels_of_torchvision(tmp_path, images, network):
    program = tmp_path / "shufflenet.pt"
    torch.jit.script(network).save(str(program))
    names = [f"label_{number}" for number in range(1000)]
    path = make_archive(
        tmp_path, "shufflenet", index_to_name(tmp_path / "index_to_name.json", names), serialized_file=program
    )
    archive = open_archive(path)
    assert is_classifier(archive, archive.manifest.handler)
    model = open_archived_classifier("m", archive, lambda spec: Preprocessor(spec, exactly=True))
    engine = model.load(EngineOptions("cpu", max_batch_size=BATCH))
    worst, tops = 0.0, []
    for start in range(0, IMAGES, BATCH):
        batch = images[start : start + BATCH]
        rows = [model.finish(row) for row in engine.infer([model.prepare(Image(each)) for each in batch])]
        with torch.inference_mode():
            expected = torch.softmax(network(torch.stack([reference(each) for each in batch])), 1)
        worst = max(
            worst, *(np.abs(row.values - other.numpy()).max() for row, other in zip(rows, expected, strict=True))
        )
        for row, best in zip(rows, expected.topk(5)[1].tolist(), strict=True):
            assert [each.label for each in row.top(5)] == [names[index] for index in best]
            tops.append(row.top(1)[0])
    assert worst < 1e-4
    assert model.facts.num_classes == 1000
    assert len({each.label for each in tops}) > 10 and max(each.score for each in tops) > 0.2, (
        "it tells them apart"
    )
