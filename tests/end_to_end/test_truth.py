"""The running service against eager pipelines of its libraries: every score, alone and in company."""

from __future__ import annotations

import asyncio
import io
import json
import re
from pathlib import Path

import aiohttp
import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from benchmark.harness.server import ROOT, ServerProcess
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec
from models.networks.architectures import build_network

SAMPLES = sorted(file for file in (ROOT / "images").iterdir() if file.suffix in (".jpg", ".png", ".webp"))
DIGITS = [file for file in SAMPLES if file.name.startswith("digit-")]
IMAGES = [file for file in SAMPLES if file not in DIGITS] + DIGITS[:5:2]
TOLERANCE, CLEAR = 5e-3, 1e-2

pytestmark = pytest.mark.timeout(300)  # two servers with two models each

PHOTOS = {"cat.jpg": range(281, 286), "coffee.png": (504, 967, 968), "flower.jpg": (985,), "palace.jpg": (698,)}


@pytest.fixture(scope="module")
def bundles(imagenet, tmp_path_factory):
    """One with ImageNet weights, and a random one."""
    folder = tmp_path_factory.mktemp("random")
    torch.manual_seed(0)
    save_file(build_network("resnet18", 1000).state_dict(), folder / "model.safetensors")
    engine = EngineSpec("torchscript", "model.safetensors", "")
    spec = ModelSpec("random", "resnet18", 1000, "labels.json", IMAGENET, engine, source={"random": True})
    random = ModelBundle.write(folder, spec, tuple(f"class {n}" for n in range(1000)))
    folder = tmp_path_factory.mktemp("imagenet")
    save_file(dict(imagenet.state), folder / "model.safetensors")
    spec = ModelSpec("imagenet", imagenet.architecture, 1000, "labels.json", imagenet.preprocess, engine)
    return {"imagenet": ModelBundle.write(folder, spec, imagenet.labels), "random": random}


@pytest.fixture(scope="module")
def answers(bundles):
    """What the service says: {(model, image, "alone" or "among 31 others"): scores}."""
    models = [word for name, bundle in bundles.items() for word in ("--model", f"{name}={bundle.file.parent}")]
    models += ["--workers", "1"]  # of two, each would have half of the company
    with (
        # The first input of each model waits for company that does not come: the other server starts meanwhile.
        ServerProcess(*models, "--batch-timeout-ms", "10000", "--max-batch-size", "32", wait=False) as patient,
        ServerProcess(*models, "--batch-timeout-ms", "0", "--max-batch-size", "2") as prompt,
    ):
        patient.wait_ready()
        return asyncio.run(_ask(bundles, prompt.url, patient.url))


async def _ask(bundles, prompt, patient):
    collected = {}
    async with aiohttp.ClientSession() as session:
        for name, bundle in bundles.items():
            for image in IMAGES:
                collected[name, image, "alone"] = await _scores(session, prompt, name, bundle, image, 1)
            company = (IMAGES * 32)[:32]
            together = await asyncio.gather(
                *(_scores(session, patient, name, bundle, image, 32) for image in company)
            )
            collected |= {
                (name, image, "among 31 others"): scores for image, scores in zip(company, together, strict=True)
            }
    return collected


async def _scores(session, url, name, bundle, image, batch_size):
    query = f"/classify?model={name}&top_k={bundle.spec.num_classes}"
    async with session.post(url + query, data=image.read_bytes()) as response:
        answer = await response.json()
        assert response.status == 200, answer
    assert answer["batch_size"] == batch_size
    scores = np.zeros(bundle.spec.num_classes)
    for prediction in answer["predictions"]:
        scores[prediction["index"]] = prediction["score"]
    return scores


@pytest.fixture(scope="module")
def references(bundles):
    """The library's own transforms and eager fp32 on the same PIL image: {(model, image): scores}."""
    return {
        (name, image): scores
        for name, bundle in bundles.items()
        for image, scores in zip(IMAGES, _reference(bundle), strict=True)
    }


def _reference(bundle):
    network, transform = _timms() if bundle.spec.name == "imagenet" else _torchvisions(bundle)
    network.load_state_dict(load_file(bundle.file))
    with torch.inference_mode():
        return [network.eval()(transform(_upright(image))[None]).softmax(1)[0].numpy() for image in IMAGES]


def _timms():
    network = timm.create_model("tf_efficientnet_lite0")
    config = timm.data.resolve_model_data_config(network)
    return network, timm.data.create_transform(**config, is_training=False)


def _torchvisions(bundle):
    geometry = bundle.spec.preprocess
    transform = ImageClassification(
        crop_size=geometry.crop_size,
        resize_size=geometry.resize_size,
        mean=geometry.mean,
        std=geometry.std,
        interpolation=InterpolationMode(geometry.interpolation),
    )
    return torchvision.models.resnet18(weights=None), transform


def _upright(image):
    return ImageOps.exif_transpose(Image.open(io.BytesIO(image.read_bytes()))).convert("RGB")


@pytest.mark.parametrize("company", ["alone", "among 31 others"])
@pytest.mark.parametrize("image", IMAGES, ids=lambda file: file.name)
@pytest.mark.parametrize("name", ["imagenet", "random"])
def test_every_score_equals_the_librarys_eager_pipeline(answers, references, name, image, company):
    got, wanted = answers[name, image, company], references[name, image]
    assert np.abs(got - wanted).max() <= TOLERANCE
    clearly_above = wanted[:, None] - wanted[None, :] > CLEAR
    assert (got[:, None] > got[None, :])[clearly_above].all(), "the order"


@pytest.mark.parametrize("name", PHOTOS)
def test_photos_are_given_the_labels_of_what_they_show(answers, name):
    """Random weights say the same to all of them."""
    assert answers["imagenet", ROOT / "images" / name, "alone"].argmax() in PHOTOS[name]


def test_a_shifted_label_or_a_missing_normalisation_would_be_seen(references, bundles):
    """The comparison itself can fail."""
    wanted = references["imagenet", ROOT / "images" / "cat.jpg"]
    assert np.abs(np.roll(wanted, 1) - wanted).max() > TOLERANCE
    geometry = bundles["imagenet"].spec.preprocess
    assert geometry.mean != (0.0, 0.0, 0.0)


def test_at_least_nine_of_the_ten_held_out_digits_are_read_by_the_running_demo(demo_server):
    async def read():
        async with aiohttp.ClientSession() as session:
            return [await _top(session, demo_server, image) for image in DIGITS]

    shown = [re.match(r"digit-(\d)-", image.name)[1] for image in DIGITS]
    assert sorted(shown) == list("0123456789")
    assert sum(a == b for a, b in zip(asyncio.run(read()), shown, strict=True)) >= 9


async def _top(session, url, image):
    form = aiohttp.FormData()
    form.add_field("image", image.read_bytes(), filename=Path(image).name)
    async with session.post(url + "/classify", data=form) as response:
        return json.loads(await response.text())["predictions"][0]["label"]


def test_the_reference_is_torchvisions_own_preset():
    """The geometry of the random model's reference is what the published weights bring."""
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    assert (preset.resize_size, preset.crop_size) == ([IMAGENET.resize_size], [IMAGENET.crop_size])
    assert (tuple(preset.mean), tuple(preset.std)) == (IMAGENET.mean, IMAGENET.std)
    assert preset.interpolation.value == IMAGENET.interpolation
