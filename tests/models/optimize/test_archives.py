"""`--from ARCHIVE`: a bundle that answers as TorchServe's archive does, and archives of which none is made."""

import tempfile
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch

from models.archives import unpacked
from models.archives.class_names import labels_of
from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor
from models.optimize.options import OptimizeOptions
from tests.archived import EAGER, index_to_name, make_archive, small_network, small_torchscript
from tests.conftest import ROOT
from tests.models.archives.hostile import manifest, zipped
from tests.models.optimize.runs import main_here

NAMES = ("zero", "one", "two", "three", "four")  # of seven classes: the others go by their numbers
PHOTO = (ROOT / "images" / "cat.jpg").read_bytes()


@pytest.fixture(autouse=True)
def unpacked_folders(tmp_path, monkeypatch):
    """Archives are unpacked in folders of a name of their own, which are gone afterwards."""
    prefix = f"snapserve-archive-{uuid.uuid4().hex}-"
    monkeypatch.setattr(unpacked, "PREFIX", prefix)
    yield
    assert list(Path(tempfile.gettempdir()).glob(f"{prefix}*")) == []


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """The same network as TorchScript, and as a class with its state dict; and names of its classes."""
    folder = tmp_path_factory.mktemp("parts")
    state = {f"network.{name}": tensor for name, tensor in small_network().state_dict().items()}
    torch.save(state, folder / "small.pth")
    (folder / "small.py").write_text(EAGER)
    return {
        "names": index_to_name(folder / "index_to_name.json", NAMES),
        "script": {"serialized_file": small_torchscript(folder / "small.pt")},
        "class": {"serialized_file": folder / "small.pth", "model_file": folder / "small.py"},
    }


def optimise(archive, output, *words):
    return main_here(["--from", str(archive), "--output", str(output), "--engine", "as-it-is", *words])


@pytest.mark.parametrize(
    ("form", "network", "words"),
    [("default", "script", ()), ("no-archive", "script", ()), ("tgz", "class", ("--allow-code",))],
)
def test_a_bundle_answers_as_the_archive(tmp_path, parts, form, network, words):
    archive = make_archive(tmp_path, "small", parts["names"], form=form, version="2.5", **parts[network])
    assert optimise(archive, tmp_path / "bundle", *words) == 0
    bundle = ModelBundle.load(tmp_path / "bundle")
    assert bundle.labels == labels_of(dict(enumerate(NAMES)), 7) and bundle.spec.name == "small"
    assert bundle.spec.source["archive"] == archive.name and bundle.spec.source["version"] == "2.5"
    pixels = Preprocessor(bundle.spec.preprocess)(PHOTO)
    engine = load_engine(bundle, EngineOptions("cpu"))
    (scores,) = engine.infer(pixels[None])
    engine.close()
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    image = ((torch.tensor(pixels) / 255 - mean) / std).permute(2, 0, 1)
    with torch.inference_mode():
        expected = small_network()(image[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def archive_of(kind, folder, parts):
    """An archive of which no bundle is made."""
    (folder / "h.py").write_text("def handle(data, context):\n    return data\n")
    match kind:
        case "handler":
            return make_archive(folder, "m", handler=folder / "h.py", **parts["script"])
        case "built-in":
            return make_archive(folder, "m", handler="object_detector", **parts["script"])
        case "own":
            own = folder / "image_classifier.py"
            own.write_text((folder / "h.py").read_text())
            return make_archive(folder, "m", own, **parts["script"])
        case "class":
            return make_archive(folder, "m", **parts["class"])
        case "weights":
            return make_archive(folder, "m", serialized_file=parts["class"]["serialized_file"])
        case "packages":
            (folder / "requirements.txt").write_text("attrs\n")
            return make_archive(folder, "m", requirements_file=folder / "requirements.txt", **parts["script"])
        case "outside":
            return zipped(folder / "m.mar", ("../out", b"x"))
        case "link":
            (folder / "store").mkdir()
            archive = make_archive(folder / "store", "m", form="no-archive", **parts["script"])
            (archive / "more.txt").symlink_to(folder / "h.py")
            return archive
        case "names":
            (folder / "index_to_name.json").write_text('{"0": ""}')
            return make_archive(folder, "m", folder / "index_to_name.json", **parts["script"])
        case "damaged":
            (folder / "m.mar").write_bytes(b"PK\x03\x04")
        case "nothing":
            return zipped(folder / "m.mar", content=manifest(handler="image_classifier"))
    return folder / "m.mar"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("handler", "its handler 'h.py' is a program of its own; serve the archive as it is"),
        ("built-in", "its handler 'object_detector' is a program of its own"),
        ("own", "its handler 'image_classifier' is a program of its own"),
        ("class", "its network is a program (small.py); --allow-code lets it run"),
        ("weights", "small.pth: weights alone, no TorchScript"),
        ("packages", "asks for packages (requirements.txt)"),
        ("outside", "../out"),
        ("link", "is a link that leads out of"),
        ("names", "the label"),
        ("damaged", "is no zip archive, or damaged"),
        ("nothing", "has neither TorchScript (.pt) nor a class with its weights"),
        ("missing", "No such file or directory"),
    ],
)
def test_what_cannot_be_optimised_is_refused_in_one_line(tmp_path, parts, capfd, kind, words):
    archive = archive_of(kind, tmp_path, parts)
    assert optimise(archive, tmp_path / "bundle") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f": {archive}: " in line and words in line and "snapserve-archive" not in line
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("raise OSError('no disk')", "no network: OSError: no disk"),
        (
            EAGER.replace("class Small", "class Other(nn.Module): pass\n\nclass Small"),
            "must have exactly one class",
        ),
        (
            EAGER.replace("return self", "return torch.rand(len(images), 7) + self"),
            "neither tracing nor scripting",
        ),
        ("import os\nos._exit(3)", "its process died"),
    ],
)
def test_code_of_an_archive_runs_in_a_process_of_its_own(tmp_path, parts, capfd, code, words):
    (tmp_path / "small.py").write_text(code)
    network = {**parts["class"], "model_file": tmp_path / "small.py"}
    archive = make_archive(tmp_path, "m", **network)
    assert optimise(archive, tmp_path / "bundle", "--allow-code") == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert f": {archive}: " in line and words in line


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--from", "m.mar", "--labels", "l.txt"], "--from m.mar: an archive brings its own; leave out --labels"),
        (["--from", "m.mar", "--preprocess", "half"], "leave out --preprocess"),
        (["--from", "m.mar", "--arch", "resnet50"], "leave out --arch"),
        (["--from", "m.mar", "--device", "cuda"], "is for a CPU; on a GPU serve the archive as it is"),
        (["--from", "m.pt", "--allow-code"], "--allow-code is for an archive of TorchServe"),
        (["--allow-code"], "--allow-code is for an archive of TorchServe"),
    ],
)
def test_options_that_do_not_fit_an_archive(capsys, words, line):
    assert main_here(words) == 2
    assert line in capsys.readouterr().err


@pytest.mark.parametrize("name", ["resnet18.mar", "resnet18.tar.gz", "resnet18"])
def test_the_bundle_has_the_name_of_the_archive(name):
    assert OptimizeOptions(from_=Path("store") / name).folder == Path("models/store/resnet18")
