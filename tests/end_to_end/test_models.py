"""Models as people bring them, through the running service: each with the scores of its own network."""

from __future__ import annotations

import argparse
import io
import json
import urllib.request

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from benchmark.harness.server import ServerProcess
from models.bundles.bundle import ModelBundle
from models.bundles.spec import WEIGHTS_ENGINE, ModelSpec
from models.networks.graph import jit_warnings_ignored
from models.optimize.candidates.eager import write_weights
from models.optimize.sources import WeightsChoice, resolve
from tests.models.small import quiet

SIDE = 16
GEOMETRY = {"resize_size": SIDE, "crop_size": SIDE}
PIXELS = np.random.default_rng(8).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
LARGER = np.random.default_rng(9).integers(0, 256, (64, 64, 3), np.uint8)
LABELS = ["a", "b", "c"]
TOLERANCE = 1e-4


def network(seed=0, channels=3, classes=3, after=None):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = (
            nn.Conv2d(channels, 8, 3, 2),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(32, classes),
        )
        layers[-1].weight.data *= 20
        return nn.Sequential(*layers, *([after] if after else [])).eval()


class Named(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = network()

    def forward(self, images):
        outputs = self.net(images)
        return {"features": outputs[:, :2], "logits": outputs}


def inputs(mean=0.0, std=1.0, grey=False, dtype=torch.float32):
    image = Image.fromarray(PIXELS)
    pixels = np.asarray(image.convert("L"))[..., None] if grey else PIXELS
    return ((torch.from_numpy(pixels / np.float32(255)).permute(2, 0, 1)[None] - mean) / std).to(dtype)


def image_bytes(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def scores_of(url, model, pixels=PIXELS):
    """Label -> score, as the service answers."""
    request = urllib.request.Request(f"{url}/classify?model={model}", image_bytes(pixels))
    with urllib.request.urlopen(request, timeout=60) as response:
        return {each["label"]: each["score"] for each in json.load(response)["predictions"]}


def get(url):
    with urllib.request.urlopen(url, timeout=60) as response:
        return json.load(response)


def prepared(preset):
    return {"preprocess": {"preset": preset, **GEOMETRY}}


HALF = {"mean": 0.5, "std": 0.5}
# Name -> network, example input, settings beside the file, and the scores that its own network gives.
FORMS = {
    "logits": (network(), {}, lambda: network()(inputs()).softmax(1)),
    "probabilities": (network(after=nn.Softmax(1)), {}, lambda: network()(inputs()).softmax(1)),
    "multilabel": (network(after=nn.Sigmoid()), {}, lambda: network()(inputs()).sigmoid()),
    "named-sigmoid": (network(), {"activation": "sigmoid"}, lambda: network()(inputs()).sigmoid()),
    "half": (
        network(),
        {"preprocess": {"preset": "half", **GEOMETRY}},
        lambda: network()(inputs(**HALF)).softmax(1),
    ),
    "raw": (
        network(),
        {"preprocess": {"preset": "raw", **GEOMETRY}},
        lambda: network()(inputs() * 255).softmax(1),
    ),
    "grey": (network(channels=1), {}, lambda: network(channels=1)(inputs(grey=True)).softmax(1)),
    "double": (network().double(), {}, lambda: network().double()(inputs(dtype=torch.float64)).softmax(1)),
    "dict": (Named().eval(), {}, lambda: network()(inputs()).softmax(1)),
    "one-logit": (network(classes=1), {"labels": ["yes"]}, lambda: network(classes=1)(inputs()).sigmoid()),
    "binary": (
        network(classes=1, after=nn.Sigmoid()),
        {"labels": ["no", "yes"]},
        lambda: torch.cat([1 - network(classes=1)(inputs()).sigmoid(), network(classes=1)(inputs()).sigmoid()], 1),
    ),
}


def write(folder, name, module, settings):
    channels = 1 if name == "grey" else 3
    dtype = torch.float64 if name == "double" else torch.float32
    with jit_warnings_ignored(), torch.inference_mode():
        traced = torch.jit.trace(module, torch.rand(2, channels, SIDE, SIDE, dtype=dtype), strict=False)
        torch.jit.save(traced, folder / f"{name}.pt")
    whole = {"labels": LABELS, "preprocess": {"preset": "none", **GEOMETRY}, **settings}
    (folder / f"{name}.json").write_text(json.dumps(whole))
    return ["--model", str(folder / f"{name}.pt")]


ARCHITECTURE = "squeezenet1_1"


def weights(folder):
    choice = WeightsChoice(ARCHITECTURE, "none", num_classes=3, preprocess=folder / "geometry.json")
    return resolve(choice, quiet())


CHECKPOINTS = {
    "plain": lambda state: state,
    "compiled-parallel": lambda state: {f"_orig_mod.module.{name}": tensor for name, tensor in state.items()},
    "lightning": lambda state: {
        "state_dict": {f"model.backbone.{name}": tensor for name, tensor in state.items()},
        "args": argparse.Namespace(lr=0.1),
    },
}


def bundle(folder, name, state):
    """What the optimiser writes of a checkpoint, but for the engines that it has timed."""
    torch.save(CHECKPOINTS[name](state), folder / f"{name}.pth")
    choice = WeightsChoice(
        ARCHITECTURE,
        checkpoint=folder / f"{name}.pth",
        labels=folder / "labels.txt",
        preprocess=folder / "geometry.json",
    )
    read = resolve(choice, quiet())
    (folder / name).mkdir()
    engine = write_weights(read.network(), folder / name, 4)
    spec = ModelSpec(
        name, ARCHITECTURE, 3, "labels.json", read.preprocess, engine, engines={WEIGHTS_ENGINE: engine}
    )
    ModelBundle.write(folder / name, spec, read.labels)
    return ["--model", str(folder / name)]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """One server with all of them, and its banner."""
    folder = tmp_path_factory.mktemp("models")
    (folder / "geometry.json").write_text(json.dumps({"preset": "imagenet", "resize_size": 64, "crop_size": 64}))
    (folder / "labels.txt").write_text("\n".join(LABELS))
    words = [word for name, (module, given, _) in FORMS.items() for word in write(folder, name, module, given)]
    state = weights(folder).state
    words += [word for name in CHECKPOINTS for word in bundle(folder, name, state)]
    with ServerProcess(*words, "--workers", "1", "--max-batch-size", "4") as server:
        yield server, folder


@pytest.mark.parametrize("name", FORMS)
def test_a_torchscript_file_is_served_with_its_networks_own_scores(served, name):
    server, _ = served
    with torch.inference_mode():
        expected = FORMS[name][2]()[0].tolist()
    labels = FORMS[name][1].get("labels", LABELS)
    assert scores_of(server.url, name) == pytest.approx(dict(zip(labels, expected, strict=True)), abs=TOLERANCE)


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_checkpoint_is_served_with_its_networks_own_scores(served, name):
    server, folder = served
    read = weights(folder)
    with torch.inference_mode():
        logits = read.reference_network()(read.reference_input(torch.from_numpy(LARGER)[None]))
    expected = dict(zip(LABELS, logits.softmax(1)[0].tolist(), strict=True))
    assert scores_of(server.url, name, LARGER) == pytest.approx(expected, abs=TOLERANCE)


def test_each_model_shows_what_happens_to_an_image(served):
    server, _ = served
    assert get(f"{server.url}/models/half")["preparation"] == (
        "resize 16, crop 16, bilinear, mean 0.5, std 0.5 (values -1 to 1); scores by softmax"
    )
    assert get(f"{server.url}/models/multilabel")["activation"] == "none"
    assert "takes one channel: images become grey" in get(f"{server.url}/models/grey")["notices"]


@pytest.fixture
def two(tmp_path):
    """Two files, each with labels and preprocessing of its own, and what the two answer."""
    specs = {"cats": (1, "none", ["tabby", "siamese"]), "dogs": (2, "half", ["pug", "corgi"])}
    expected = {}
    for name, (seed, preset, labels) in specs.items():
        module = network(seed, classes=2)
        with jit_warnings_ignored(), torch.inference_mode():
            torch.jit.save(torch.jit.trace(module, torch.rand(2, 3, SIDE, SIDE)), tmp_path / f"{name}.pt")
            outputs = module(inputs(**(HALF if preset == "half" else {}))).softmax(1)[0].tolist()
        (tmp_path / f"{name}-labels.txt").write_text("\n".join(labels))
        (tmp_path / f"{name}-preprocess.json").write_text(json.dumps({"preset": preset, **GEOMETRY}))
        expected[name] = dict(zip(labels, outputs, strict=True))
    return tmp_path, expected


def by_options(folder):
    return [
        *("--model", f"cats={folder}/cats.pt", "--model", f"dogs={folder}/dogs.pt"),
        *("--labels", f"cats={folder}/cats-labels.txt", "--labels", f"dogs={folder}/dogs-labels.txt"),
        *(
            "--preprocess",
            f"cats={folder}/cats-preprocess.json",
            "--preprocess",
            f"dogs={folder}/dogs-preprocess.json",
        ),
    ], {}


def by_files(folder):
    for name in ("cats", "dogs"):
        preprocess = json.loads((folder / f"{name}-preprocess.json").read_text())
        settings = {"labels": f"{name}-labels.txt", "preprocess": preprocess}
        (folder / f"{name}.json").write_text(json.dumps(settings))
    return ["--model", f"{folder}/cats.pt", "--model", f"{folder}/dogs.pt"], {}


def by_environment(folder):
    options, _ = by_options(folder)
    pairs = list(zip(options[::2], options[1::2], strict=True))
    names = {"--model": "SNAPSERVE_MODEL", "--labels": "SNAPSERVE_LABELS", "--preprocess": "SNAPSERVE_PREPROCESS"}
    return [], {name: ",".join(value for option, value in pairs if option == flag) for flag, name in names.items()}


@pytest.mark.parametrize("given", [by_options, by_files, by_environment], ids=lambda given: given.__name__)
def test_two_models_have_their_own_labels_and_preprocessing(two, given):
    folder, expected = two
    options, variables = given(folder)
    with ServerProcess(*options, "--workers", "1", "--max-batch-size", "4", variables=variables) as server:
        for name, scores in expected.items():
            assert scores_of(server.url, name) == pytest.approx(scores, abs=TOLERANCE)
