"""timm's classifiers: their scores are those of timm's own eager pipeline."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save

from models.images.preprocess import Preprocessor
from models.networks.architectures import build_network
from models.optimize.candidates import Job, openvino, torchscript
from models.optimize.choice import WeightsChoice
from models.optimize.contestant import Contestant, Setting
from models.optimize.errors import UsageError
from models.optimize.sources import resolve
from tests.conftest import ROOT
from tests.models.small import quiet, write_labels

ARCHITECTURES = ("resnet18", "efficientnet_b0", "mobilenetv3_small_100", "vit_tiny_patch16_224", "convnext_atto")
SEED = 3


@pytest.fixture(scope="module", params=ARCHITECTURES)
def weights(request):
    """Random ones, whose last layer is stretched so that images are told apart."""
    found = resolve(WeightsChoice(f"timm/{request.param}", "none", num_classes=5, seed=SEED), quiet())
    network = found.network()
    photos, _ = zip(*images(found.preprocess.resize_size), strict=True)
    with torch.inference_mode():
        logits = network(torch.stack([found.transforms(photo) for photo in photos]))
        stretch = 2 / logits.std(dim=0)
    head = next(name for name, module in network.named_modules() if module is network.get_classifier())
    weight, bias = found.state[f"{head}.weight"], found.state[f"{head}.bias"]
    weight.mul_(stretch[:, None])
    bias.sub_(logits.mean(dim=0)).mul_(stretch)
    return found


def images(side):
    """Photos that are as large as the resize makes them, so that it changes nothing."""
    for name in ("cat.jpg", "flower.jpg", "officer.jpg"):
        photo = Image.open(ROOT / "images" / name).convert("RGB").resize((side, side))
        stream = io.BytesIO()
        photo.save(stream, "PNG")
        yield photo, stream.getvalue()


def timms_scores(weights, photos):
    network = timm.create_model(weights.architecture.removeprefix("timm/"), num_classes=5).eval()
    network.load_state_dict(weights.state)
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.inference_mode():
        return network(torch.stack([transform(photo) for photo in photos])).softmax(dim=1)


@pytest.mark.parametrize("candidate", [torchscript.FP32, openvino.FP32], ids=lambda each: each.name)
def test_the_scores_are_those_of_timms_own_pipeline(weights, candidate, tmp_path):
    photos, files = zip(*images(weights.preprocess.resize_size), strict=True)
    expected = timms_scores(weights, photos)
    assert float((expected[0] - expected[1]).abs().max()) > 0.01, "images are told apart"
    job = Job(weights.network(), weights.preprocess, (4,))
    contestant = Contestant(candidate, job, weights.architecture, weights.labels, tmp_path)
    contestant.build()
    preprocessor = Preprocessor(weights.preprocess)
    pixels = np.stack([preprocessor(file) for file in files])
    actual = torch.from_numpy(contestant.scores(pixels, Setting(1)))
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4)


def test_a_tag_chooses_the_weights_and_their_preprocessing():
    plain = resolve(WeightsChoice("timm/resnet18.tv_in1k", "none"), quiet())
    other = resolve(WeightsChoice("timm/resnet18.a1_in1k", "none"), quiet())
    assert (plain.preprocess.interpolation, other.preprocess.interpolation) == ("bilinear", "bicubic")
    assert (plain.preprocess.resize_size, other.preprocess.resize_size) == (256, 235)
    assert plain.labels[281] == "tabby" and len(other.labels) == 1000


def test_other_sets_of_imagenet_have_timms_labels():
    weights = resolve(WeightsChoice("timm/vit_tiny_patch16_224.augreg_in21k", "none"), quiet())
    assert len(weights.labels) == 21843
    assert len(set(weights.labels)) > 20000


@pytest.mark.parametrize(
    ("choice", "reason"),
    [
        (WeightsChoice("timm/resnet81"), "timm has no architecture 'resnet81', did you mean 'resnet"),
        (WeightsChoice("timm/resnet18.nobody"), "timm has no such weights of resnet18, it has resnet18.a1_in1k"),
        (WeightsChoice("timm/resnet18", "IMAGENET1K_V1"), "timm's are chosen by the name, timm/resnet18.TAG"),
        (WeightsChoice("timm/vit_small_patch14_dinov2"), "timm has no pretrained classifier of that name"),
    ],
)
def test_what_timm_does_not_have_is_said_in_one_line(choice, reason):
    with pytest.raises(UsageError, match=reason) as caught:
        resolve(choice, quiet())
    assert "\n" not in str(caught.value)


def test_without_timm_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    for architecture in ("timm/resnet18", "efficientnet_lite0"):
        with pytest.raises(UsageError, match="pip install"):
            resolve(WeightsChoice(architecture), quiet())


class Hub(BaseHTTPRequestHandler):
    """As much of timm's hub as its client asks for."""

    def do_HEAD(self):
        self.answer()

    def do_GET(self):
        self.wfile.write(self.answer())

    def answer(self):
        body = self.server.files.get(self.path, b"")
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.end_headers()
        return body

    def log_message(self, *args):
        pass


@pytest.fixture
def hub():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files = {}
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


FETCH = """
import json, sys
from rich.console import Console
from models.optimize.choice import WeightsChoice
from models.optimize.errors import OptimizeError
from models.optimize.sources import resolve
try:
    weights = resolve(WeightsChoice(sys.argv[1], connect_limit_s=2), Console(quiet=True))
except OptimizeError as error:
    print(json.dumps([error.exit_code, str(error)]))
else:
    print(json.dumps([0, weights.source["weights"], float(weights.state["fc.bias"][7]), weights.labels[7]]))
"""


def fetch(architecture, endpoint, folder):
    """In a process of its own: the hub's client reads its environment when it is imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(folder), "PYTHONPATH": str(ROOT)}
    environment.pop("HF_HUB_OFFLINE", None)
    command = [sys.executable, "-W", "ignore", "-c", FETCH, architecture]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=100)
    return json.loads(done.stdout.splitlines()[-1])


def test_pretrained_weights_come_from_the_hub(hub, tmp_path):
    state = build_network("timm/resnet10t", 1000).state_dict()
    state["fc.bias"][7] = 4.5
    hub.files["/timm/resnet10t.c3_in1k/resolve/main/model.safetensors"] = save(state)
    endpoint = f"http://127.0.0.1:{hub.server_port}"
    expected = [0, "timm/resnet10t.c3_in1k", 4.5, "cock"]
    assert fetch("timm/resnet10t", endpoint, tmp_path) == expected
    hub.files.clear()
    assert fetch("timm/resnet10t", endpoint, tmp_path) == expected, "from the client's cache"


def test_a_hub_that_is_not_there_costs_code_3_and_one_line(tmp_path):
    code, message = fetch("timm/resnet10t", "http://127.0.0.1:1", tmp_path)
    assert code == 3
    assert "could not be reached (Connection refused)" in message
    assert "\n" not in message


def test_a_hub_without_the_file_is_told(hub, tmp_path):
    code, message = fetch("timm/resnet10t", f"http://127.0.0.1:{hub.server_port}", tmp_path)
    assert code == 3 and "could not be downloaded" in message


def test_a_checkpoint_of_timms_own_names_is_taken(tmp_path):
    torch.save({"state_dict": build_network("timm/resnet10t", 3).state_dict()}, tmp_path / "own.pth")
    choice = WeightsChoice("timm/resnet10t", checkpoint=tmp_path / "own.pth", labels=write_labels(tmp_path, 3))
    assert len(resolve(choice, quiet()).labels) == 3
