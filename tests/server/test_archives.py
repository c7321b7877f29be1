"""Model archives as models: `image_classifier` on our own path, in processes that the archive's settings bound."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as PillowImage
from torchvision import transforms

from models.archives.unpacked import PREFIX
from runtime.added_model import AddedModel, ArchiveAsked
from runtime.errors import EngineTimeout, ModelRefused
from runtime.inputs import Image
from runtime.phases import PhaseClock
from tests.archived import EAGER, index_to_name, make_archive, small_network, small_torchscript

REFERENCE = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ]
)
NAMES = ("cat", "dog", "owl", "fox", "elk")
SLOW = (
    EAGER.replace("import torch\n", "import torch, time\n")
    + """
def is_green(images):
    return bool((images[:, 0].max() < -2) & (images[:, 1].min() > 2))
"""
)
LABELS = ["cat", "dog", "owl", "fox", "elk", "5", "6"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Archives of one small network, by the real archiver."""
    folder, work = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("work")
    program, names = small_torchscript(work / "small.pt"), index_to_name(work / "index_to_name.json", NAMES)
    weights = work / "weights.pt"
    torch.save({f"network.{name}": value for name, value in small_network().state_dict().items()}, weights)
    sources = {
        "eager": EAGER,
        "sleeps": SLOW.replace("return self", "time.sleep(60 * is_green(images)); return self"),
        "sleeps-at-start": SLOW.replace("super().__init__()", "super().__init__(); time.sleep(60)"),
        "two-classes": EAGER + "\nclass Other: pass\n",
        "packaged": "import tiny\n" + EAGER,
    }
    for form in ("default", "tgz", "no-archive"):
        make_archive(folder, "small", names, form=form, serialized_file=program)
    for name, source in sources.items():
        module = work / name / "network.py"
        module.parent.mkdir()
        module.write_text(source)
        extra = {"requirements_file": _requirements(module.parent)} if name == "packaged" else {}
        others = [*module.parent.glob("*.whl"), *module.parent.glob("pip.py")]
        make_archive(folder, name, names, *others, serialized_file=weights, model_file=module, **extra)
    return folder


def _requirements(folder):
    """A requirements file that names a wheel beside it; and a module with the name of pip."""
    (folder / "pip.py").write_text("raise SystemExit('not pip')")
    wheel = folder / "tiny-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny.py", "")
        archive.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        archive.writestr("tiny-1.0.dist-info/RECORD", "tiny.py,,\n")
    (folder / "requirements.txt").write_text(f"./{wheel.name}\n")
    return folder / "requirements.txt"


@contextlib.asynccontextmanager
async def serving(server, path, **asked):
    """An archive as the model `a`, which is removed afterwards."""
    control = server.service.control
    before = control.committed
    settings = ArchiveAsked(**{"min_workers": 1, **asked})
    await control.prepare(before.with_model(AddedModel("a", "1.0", path, kind="archive", archive=settings)))
    await control.commit()
    try:
        async with server.service.context.store.use("a") as deployment:
            yield deployment
    finally:
        await control.prepare(before)
        await control.commit()


async def scores(deployment, data):
    return await deployment.infer(Image(data), PhaseClock(time.monotonic))


def photo(seed=0, side=(320, 280), kind="JPEG"):
    """An image's file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).resize(side, PillowImage.Resampling.BICUBIC).save(stream, kind, quality=90)
    return stream.getvalue()


def expected(data):
    """What torchvision and the network alone give."""
    with torch.inference_mode():
        image = REFERENCE(PillowImage.open(io.BytesIO(data)))
        return torch.softmax(small_network()(image[None])[0], 0).numpy()


def unpacked():
    return sorted(Path(tempfile.gettempdir()).glob(f"{PREFIX}*"))


async def gone(paths):
    """Waits until folders are removed, on a thread of theirs."""
    async with asyncio.timeout(10):
        while any(path.exists() for path in paths):
            await asyncio.sleep(0.01)


async def test_image_classifier_gives_what_torchvision_and_its_network_give(start, store):
    server = await start(model_store=str(store), allow_code=True)
    best = np.argsort(-expected(photo()))[:5]
    for path in ("small.mar", "small.tar.gz", "small", "eager.mar"):
        before = unpacked()
        async with serving(server, path) as deployment:
            got = await scores(deployment, photo())
            assert np.abs(got.values - expected(photo())).max() < 1e-4
            assert list(got.labels) == LABELS
            assert len(deployment.runner.pids) == 1, "in a process of its own, without a spare one"
            async with server.post(photo(), "/classify?model=a") as response:
                predictions = (await response.json())["predictions"]
            async with server.session.get(server.url + "/models/a") as response:
                document = await response.json()
            assert [each["index"] for each in predictions] == best.tolist()
            assert (document["num_classes"], document["labels"]) == (7, LABELS)
            assert deployment.model.facts.outputs[0].shape == (-1, 7)
            made = [each for each in unpacked() if each not in before]
            assert len(made) == (path != "small"), "a folder is used where it lies"
            assert all(each.stat().st_mode & 0o777 == 0o700 for each in made)
        await gone(made)
    assert (store / "small" / "small.pt").exists()


async def test_processes_batches_and_limits_are_as_asked_and_one_bad_image_fails_alone(start, store):
    server = await start(model_store=str(store), max_batch_size=16)
    grey = io.BytesIO()
    PillowImage.open(io.BytesIO(photo())).convert("L").save(grey, "PNG")
    async with serving(server, "small.mar", min_workers=2, response_timeout_s=7) as deployment:
        batching = deployment._batching
        assert (len(deployment.runner.pids), deployment.runner.limit_s) == (2, 7)
        assert (batching.max_batch_size, batching.timeout_ms, batching.queue_limit) == (16, 0, 102)
    async with serving(server, "small.mar", batch_size=3, max_batch_delay_ms=2000) as deployment:
        batching = deployment._batching
        assert (batching.max_batch_size, batching.timeout_ms, batching.queue_limit) == (3, 2000, 103)
        given = [photo(1), photo()[:50], grey.getvalue(), photo(2)]
        answers = await asyncio.gather(*(scores(deployment, each) for each in given), return_exceptions=True)
        assert [type(each).__name__ for each in answers] == ["Scores", "UndecodableImage", "Scores", "Scores"]


async def test_code_runs_only_where_it_is_allowed_and_never_in_the_server(start, store):
    server = await start(model_store=str(store))
    with pytest.raises(ModelRefused, match=r"eager\.mar: an archive with code is a program; --allow-code lets"):
        async with serving(server, "eager.mar"):
            pass
    server, before = await start(model_store=str(store), allow_code=True), unpacked()
    with pytest.raises(ModelRefused, match=r"network\.py: must have exactly one class, the network's; it has Oth"):
        async with serving(server, "two-classes.mar"):
            pass
    await gone(path for path in unpacked() if path not in before)
    async with serving(server, "eager.mar") as deployment:
        with pytest.raises(Exception, match="an archive's code runs in a process of its own only"):
            deployment.model.load(None)


async def test_packages_are_installed_for_the_archive_alone_where_that_is_allowed(start, store):
    server = await start(model_store=str(store), allow_code=True)
    with pytest.raises(ModelRefused, match=r"asks for packages \(requirements\.txt\); --install-requirements"):
        async with serving(server, "packaged.mar"):
            pass
    server = await start(model_store=str(store), allow_code=True, install_requirements=True)
    async with serving(server, "packaged.mar") as deployment:
        assert np.abs((await scores(deployment, photo())).values - expected(photo())).max() < 1e-4
        with pytest.raises(ImportError):
            import tiny  # noqa: F401


async def test_a_batch_that_takes_too_long_ends_its_process_and_the_next_one_is_answered(start, store):
    server = await start(model_store=str(store), allow_code=True)
    green = io.BytesIO()
    PillowImage.new("RGB", (300, 300), "#00ff00").save(green, "PNG")
    with pytest.raises(ModelRefused, match=r"while it was loaded, the engine took longer than 1 s and was killed"):
        async with serving(server, "sleeps-at-start.mar", startup_timeout_s=1):
            pass
    async with serving(server, "sleeps.mar", response_timeout_s=1) as deployment:
        with pytest.raises(Exception, match="engine") as raised:
            await scores(deployment, green.getvalue())
        assert isinstance(raised.value.__cause__, EngineTimeout)
        await scores(deployment, photo())


async def test_names_of_classes_that_cannot_be_read_are_told(start, store):
    broken = store / "broken"
    (broken / "MAR-INF").mkdir(parents=True, exist_ok=True)
    manifest = {"model": {"modelName": "b", "handler": "image_classifier", "serializedFile": "small.pt"}}
    (broken / "MAR-INF" / "MANIFEST.json").write_text(json.dumps(manifest))
    (broken / "small.pt").write_bytes((store / "small" / "small.pt").read_bytes())
    (broken / "index_to_name.json").write_text('{"cat": "dog"}')
    server = await start(model_store=str(store))
    with pytest.raises(ModelRefused, match=r"index_to_name\.json: expected names of classes, as "):
        async with serving(server, "broken"):
            pass
