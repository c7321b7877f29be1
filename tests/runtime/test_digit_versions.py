"""Versions of the digits demo: one that is as good, one whose labels are shuffled, one that answers otherwise."""

from __future__ import annotations

import asyncio
import io
import shutil
import time

import pytest
import torch
from PIL import Image as PillowImage
from safetensors.torch import load_file, save_file

from models.bundles.bundle import ModelBundle
from models.engines.base import EngineOptions
from models.engines.selection import choose
from models.images.preprocess import Preprocessor
from runtime.golden import GoldenRefusal, GoldenRules, check
from runtime.golden_set import GoldenSet, GoldenSetError
from runtime.inputs import Image
from runtime.kinds.image_classifier import ImageClassifier
from runtime.memory import MemoryMeter
from runtime.phases import PhaseClock
from runtime.shadow import Shadow, ShadowRules
from tests.conftest import ROOT
from tests.runtime.classifiers import deployed

DEMO = ROOT / "models" / "demo"
FILES = sorted((ROOT / "images").glob("digit-*"))
DIGITS = "0123456789"
ALONE = EngineOptions(max_batch_size=1)

torch.set_num_threads(1)


def model(folder):
    choice = choose(ModelBundle.load(folder), "cpu")
    return ImageClassifier(folder.name, choice, Preprocessor(choice.bundle.spec.preprocess))


def shuffled(folder):
    """The demo with each label at the next digit's place."""
    shutil.copytree(DEMO, folder)
    demo = ModelBundle.load(DEMO)
    ModelBundle.write(folder, demo.spec, tuple(DIGITS[1:] + DIGITS[:1]))
    return folder


def disturbed(folder):
    """The demo with noise on its last layer: another model with the same labels."""
    shutil.copytree(DEMO, folder)
    weights = load_file(folder / "model.safetensors")
    noise = torch.randn(weights["fc.weight"].shape, generator=torch.Generator().manual_seed(1))
    weights["fc.weight"] += 2 * weights["fc.weight"].std() * noise
    save_file(weights, folder / "model.safetensors")
    demo = ModelBundle.load(DEMO)
    ModelBundle.write(folder, demo.spec, demo.labels)
    return folder


@pytest.fixture
def golden(tmp_path):
    """The sample digits, a folder per label, as `--validation` has them."""
    for file in FILES:
        place = tmp_path / "golden" / file.name.split("-")[1]
        place.mkdir(parents=True)
        shutil.copy(file, place)
    return tmp_path / "golden"


def test_the_optimiser_reads_the_same_folder(golden):
    from models.optimize.image_set import labelled

    found = labelled(golden, tuple(DIGITS))
    read = GoldenSet.read(golden)
    assert [(each.name, DIGITS[each.label]) for each in found] == [(each.name, each.label) for each in read.images]


async def test_the_demo_passes_and_shuffled_labels_and_damaged_images_are_refused(golden, tmp_path):
    async with deployed(model(DEMO), model(shuffled(tmp_path / "shuffled")), max_batch_size=1) as (demo, wrong):
        report = await check(demo, GoldenSet.read(golden), GoldenRules())
        assert report.right >= 9
        assert 0 < report.p50_ms <= report.p99_ms
        with pytest.raises(GoldenRefusal, match=r"^[01] of 10 golden .* at least 9 are required; first wrong:"):
            await check(wrong, GoldenSet.read(golden), GoldenRules())
        damaged = golden / "3" / FILES[3].name
        damaged.write_bytes(damaged.read_bytes()[:100])
        with pytest.raises(GoldenSetError, match=r"golden image 3/digit-3\S+ cannot be decoded \(PNG\)"):
            await check(demo, GoldenSet.read(golden), GoldenRules())


def variants():
    """The sample digits, each turned by some angles."""
    for file in FILES:
        with PillowImage.open(file) as opened:
            image = opened.convert("RGB")
        for angle in range(-40, 41, 20):
            stream = io.BytesIO()
            image.rotate(angle, fillcolor=image.getpixel((0, 0))).save(stream, "PNG")
            yield stream.getvalue()


async def test_a_shadows_agreement_is_that_of_an_offline_calculation(tmp_path):
    images = list(variants())
    versions = model(DEMO), model(disturbed(tmp_path / "disturbed"))
    async with deployed(*versions, max_batch_size=1) as (primary, new):
        shadow = Shadow(new, primary, ShadowRules(0.5))
        for data in images:
            clock = PhaseClock(time.monotonic)
            shadow.offer(Image(data), await primary.infer(Image(data), clock), clock)
            await shadow.settled()
        await shadow.close()
        rows = [
            [(await each.runner.run([each.model.prepare(Image(data))]))[0] for data in images[1::2]]
            for each in (primary, new)
        ]
    pairs, report = list(zip(*rows, strict=True)), shadow.report()
    agreed = sum(ours.argmax() == theirs.argmax() for ours, theirs in pairs)
    assert (report.compared, report.dropped, report.failed) == (25, 0, 0)
    assert report.agreed == agreed
    assert 0 < agreed < 25, "otherwise the comparison shows nothing"
    differences = [abs(float(theirs[ours.argmax()]) - float(ours.max())) for ours, theirs in pairs]
    assert report.score_difference_sum == pytest.approx(sum(differences), abs=1e-4)


async def test_what_the_model_takes_is_measured():
    """At least its weights, which the engine holds."""
    demo = model(DEMO)
    engine, added = await MemoryMeter().measure(lambda: asyncio.to_thread(demo.load, ALONE))
    assert added > demo.choice.bundle.file.stat().st_size / 2
    engine.close()
