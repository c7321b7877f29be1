"""Real local HTTP servers: what may go wrong between here and the weights."""

import dataclasses
import hashlib
import io
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import torchvision
from PIL import Image
from safetensors.torch import save_file

from models.networks.architectures import build_network
from models.optimize.download import fetch
from models.optimize.errors import DownloadError, UsageError
from models.optimize.sources import WeightsChoice, resolve
from tests.conftest import ROOT
from tests.models.small import ARCHITECTURE, CLASSES, SPEC, quiet, write_labels, write_preprocess

CONTENT = bytes(range(256)) * 2000
NAME = f"weights-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests += 1
        body, announced = self.server.files.get(self.path.strip("/"), (None, 0))
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(announced))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


@pytest.fixture
def mirror():
    """An HTTP server; `serve(name, body)` puts a file there, `announced` may promise more bytes than come."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.files, server.requests = {}, 0
    server.url = f"http://127.0.0.1:{server.server_port}"

    def serve(name, body, announced=None):
        server.files[name] = (body, len(body) if announced is None else announced)
        return f"{server.url}/{name}"

    server.serve = serve
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def silent_address():
    """A port that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/{NAME}"


def test_a_download_lands_in_the_cache_and_is_not_repeated(mirror, tmp_path):
    url = mirror.serve(NAME, CONTENT)
    file = fetch(url, tmp_path / "cache", quiet())
    assert file.read_bytes() == CONTENT
    assert fetch(url, tmp_path / "cache", quiet()) == file
    assert mirror.requests == 1


def test_a_damaged_file_in_the_cache_is_downloaded_again(mirror, tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT[:-1])
    assert fetch(mirror.serve(NAME, CONTENT), tmp_path, quiet()).read_bytes() == CONTENT


def test_a_file_with_another_hash_is_refused_and_nothing_stays(mirror, tmp_path):
    with pytest.raises(DownloadError, match="not the expected file"):
        fetch(mirror.serve(NAME, CONTENT[::-1]), tmp_path, quiet())
    assert not list(tmp_path.iterdir())


def test_a_download_that_is_cut_short_is_refused_and_nothing_stays(mirror, tmp_path):
    with pytest.raises(DownloadError, match="1000 bytes too early"):
        fetch(mirror.serve(NAME, CONTENT[:-1000], announced=len(CONTENT)), tmp_path, quiet())
    assert not list(tmp_path.iterdir())


def test_a_missing_file_is_named_with_its_status(mirror, tmp_path):
    with pytest.raises(DownloadError, match="HTTP status 404"):
        fetch(f"{mirror.url}/{NAME}", tmp_path, quiet())


def test_a_refused_connection_is_said_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(DownloadError, match=r"could not be downloaded \(Connection refused\)") as caught:
        fetch(f"http://127.0.0.1:{port}/{NAME}", tmp_path, quiet())
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 3


def test_a_server_that_never_answers_costs_no_more_than_the_limit(silent_address, tmp_path):
    start = time.monotonic()
    with pytest.raises(DownloadError, match="no answer"):
        fetch(silent_address, tmp_path, quiet(), limit_s=0.3)
    assert time.monotonic() - start < 3


def test_a_name_that_takes_forever_to_look_up_costs_no_more_than_the_limit(tmp_path, monkeypatch):
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: ended.wait(20) and [])
    try:
        with pytest.raises(DownloadError, match=r"no answer within 0\.2 s"):
            fetch(f"http://weights.invalid/{NAME}", tmp_path, quiet(), limit_s=0.2)
    finally:
        ended.set()


def test_an_address_without_a_hash_or_without_http_is_refused(tmp_path):
    for url in ("http://127.0.0.1/weights.pth", f"file:///{NAME}"):
        with pytest.raises(DownloadError, match="expected an http address"):
            fetch(url, tmp_path, quiet())


def state_bytes(state):
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def test_pretrained_weights_come_from_the_mirror_with_torchvisions_facts(mirror, tmp_path, monkeypatch):
    # torchvision's own enum, but its file name carries the hash of the file that the mirror has.
    entry = torchvision.models.get_model_weights(ARCHITECTURE).DEFAULT
    body = state_bytes(build_network(ARCHITECTURE, 1000).state_dict())
    digest = hashlib.sha256(body).hexdigest()
    url = f"https://weights.invalid/models/squeezenet-{digest[:8]}.pth"
    monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
    mirror.serve(url.rpartition("/")[2], body)
    weights = resolve(WeightsChoice(ARCHITECTURE, url_base=mirror.url + "/", cache=tmp_path), quiet())
    assert weights.source == {"weights": "SqueezeNet1_1_Weights.IMAGENET1K_V1", "sha256": digest}
    assert weights.labels[281] == "tabby"
    assert (weights.preprocess.resize_size, weights.preprocess.crop_size) == (256, 224)


def test_int8_weights_are_those_that_were_made_from_the_fp32_ones(mirror, tmp_path, monkeypatch):
    fp32 = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    int8 = torchvision.models.quantization.ResNet18_QuantizedWeights.IMAGENET1K_FBGEMM_V1
    bodies = {fp32: state_bytes(build_network("resnet18", 1000).state_dict()), int8: b"int8"}
    for entry, body in bodies.items():
        name = f"resnet18_fbgemm_{hashlib.sha256(body).hexdigest()[:8]}.pth"
        url = f"https://weights.invalid/{name}"
        monkeypatch.setattr(entry, "_value_", dataclasses.replace(entry.value, url=url))
        mirror.serve(name, body)
    choice = WeightsChoice("resnet18", url_base=mirror.url, cache=tmp_path / "a")
    published = resolve(choice, quiet()).published
    assert published.file.read_bytes() == b"int8"
    assert (published.accuracy, published.reference_accuracy) == pytest.approx((0.69494, 0.69758))
    assert resolve(dataclasses.replace(choice, device="cuda"), quiet()).published is None
    monkeypatch.setattr(
        int8, "_value_", dataclasses.replace(int8.value, url="https://weights.invalid/a-00000000.pth")
    )
    assert resolve(dataclasses.replace(choice, cache=tmp_path / "b"), quiet()).published is None


def test_a_bundles_weights_come_with_all_that_belongs_to_them():
    weights = resolve(WeightsChoice("", bundle=ROOT / "models/demo"), quiet())
    assert (weights.architecture, weights.name) == ("shufflenet_v2_x0_5", "digits")
    assert weights.labels == tuple("0123456789")
    assert weights.transforms(Image.new("RGB", (200, 100))).shape == (3, 96, 96)
    assert weights.preprocess.crop_size == 96
    assert weights.example == "images/digit-3-white-on-black.png"
    with pytest.raises(UsageError, match="brings its own"):
        resolve(WeightsChoice("", "none", bundle=ROOT / "models/demo"), quiet())


def checkpoint(folder, name="weights.pth", wrap=lambda state: state):
    file = folder / name
    state = wrap(build_network(ARCHITECTURE, CLASSES).state_dict())
    if file.suffix == ".safetensors":
        save_file(state, file)
    else:
        torch.save(state, file)
    return file


@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("a.safetensors", dict),
        ("a.pth", dict),
        ("a.pt", lambda state: {"state_dict": state, "epoch": 3}),
        ("a.pth", lambda state: {"model": {f"module.{name}": value for name, value in state.items()}}),
    ],
)
def test_a_checkpoint_is_read_bare_or_wrapped(tmp_path, name, wrap):
    file = checkpoint(tmp_path, name, wrap)
    choice = WeightsChoice(
        ARCHITECTURE, checkpoint=file, labels=write_labels(tmp_path), preprocess=write_preprocess(tmp_path)
    )
    weights = resolve(choice, quiet())
    assert len(weights.labels) == CLASSES
    assert weights.preprocess == SPEC
    assert weights.source["weights"] == name
    weights.network()


def wrong_choices(folder):
    file, labels = checkpoint(folder), write_labels(folder, 7)
    return {
        "needs --labels": WeightsChoice(ARCHITECTURE, checkpoint=file),
        "with 7 classes: 2 tensors do not fit": WeightsChoice(ARCHITECTURE, checkpoint=file, labels=labels),
        "exclude each other": WeightsChoice(ARCHITECTURE, "none", checkpoint=file, labels=labels),
        "no such file": WeightsChoice(ARCHITECTURE, checkpoint=folder / "nowhere.pth", labels=labels),
        "must be one of default, none, IMAGENET1K_V1": WeightsChoice(ARCHITECTURE, "IMAGENET"),
        "7 labels for the 1000 classes": WeightsChoice(ARCHITECTURE, labels=labels),
        "7 labels, but --num-classes 3": WeightsChoice(ARCHITECTURE, "none", labels=labels, num_classes=3),
        "no such file, nor one of imagenet": WeightsChoice(ARCHITECTURE, "none", preprocess=folder / "nowhere"),
        "did you mean": WeightsChoice("squeezenet1_2", "none"),
    }


def test_wrong_use_is_told_in_one_line(tmp_path):
    for text, choice in wrong_choices(tmp_path).items():
        with pytest.raises(UsageError, match=text) as caught:
            resolve(choice, quiet())
        assert caught.value.exit_code == 2
        assert "\n" not in str(caught.value)


def test_random_weights_have_imagenets_labels_where_they_fit():
    assert resolve(WeightsChoice(ARCHITECTURE, "none"), quiet()).labels[281] == "tabby"
    seven = resolve(WeightsChoice(ARCHITECTURE, "none", num_classes=7), quiet())
    assert seven.labels[6] == "class 6"
    assert seven.source == {"weights": "none", "seed": 0, "random": True}


def test_pretrained_googlenet_is_normalised_as_it_was_trained(tmp_path):
    file = tmp_path / "googlenet.pth"
    torch.save(build_network("googlenet", CLASSES).state_dict(), file)
    weights = resolve(WeightsChoice("googlenet", checkpoint=file, labels=write_labels(tmp_path)), quiet())
    assert weights.preprocess.mean == weights.preprocess.std == (0.5, 0.5, 0.5)
    assert weights.transform_input  # the reference does it torchvision's way: see test_architectures.py
    assert weights.reference_network().transform_input and not weights.network().transform_input


def test_a_preprocess_file_must_be_whole(tmp_path):
    file = tmp_path / "half.json"
    file.write_text(json.dumps({"resize_size": 72}))
    with pytest.raises(UsageError, match="'crop_size' is missing"):
        resolve(WeightsChoice(ARCHITECTURE, "none", preprocess=file), quiet())
