"""The model archives that were served while TorchServe was recorded, rebuilt by the real torch-model-archiver."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.networks.graph import jit_warnings_ignored

HANDLERS = Path(__file__).with_name("archives")
_ARCHIVER = Path(sys.executable).with_name("torch-model-archiver")
_LABELS = {str(index): [f"n{index:08}", f"label_{index}"] for index in range(1000)}
_WITH_YAML = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nmaxBatchDelay: 300\nresponseTimeout: 7\n"
_CONFIGURED = {  # name -> yaml; the handler is the probe's
    "withyaml": _WITH_YAML + "myHandler:\n  threshold: 0.5\n",
    "clienttmo": "minWorkers: 1\nmaxWorkers: 1\nclientTimeoutInMills: 500\n",
    "smallq": "minWorkers: 1\nmaxWorkers: 1\njobQueueSize: 2\n",
    "ticket": "minWorkers: 1\nmaxWorkers: 1\nuseJobTicket: true\n",
}


def archive(store: Path, name: str, handler: str, version: str = "1.0", **options: object) -> Path:
    """Runs torch-model-archiver; a handler with a file among `archives` is named by its stem.

    Args:
        store: folder of the result.
        name: of the model.
        handler: stem of a file of ours, `stem:function`, or a built-in handler.
        version: of the model.
        **options: of the command line, `_` for `-`.
    """
    stem, colon, function = handler.partition(":")
    if (HANDLERS / f"{stem}.py").exists():
        handler = str(HANDLERS / stem) + (f":{function}" if colon else ".py")
    words = [str(_ARCHIVER), "--model-name", name, "--handler", handler, "--version", version]
    for option, value in {**options, "export_path": store}.items():
        words += [f"--{option.replace('_', '-')}", str(value)]
    with tempfile.TemporaryDirectory() as folder:  # it works in a folder there that has the model's name
        environment = {**os.environ, "TMPDIR": folder}
        subprocess.run(words, check=True, capture_output=True, text=True, env=environment)
    return store / f"{name}.mar"


def make_store(store: Path, work: Path) -> None:
    """Builds all archives but those of newman's collections.

    Args:
        store: empty folder that is filled.
        work: folder for weights and settings.
    """
    archive(store, "probe", "probe_handler")
    work.joinpath("v2").mkdir()
    archive(work / "v2", "probe", "probe_handler", "2.0").rename(store / "probe_v2.mar")
    for name, form in {"tgzmodel": "tgz", "dirmodel": "no-archive", "zipstore": "zip-store"}.items():
        archive(store, name, "probe_handler", archive_format=form)
    for name, text in _CONFIGURED.items():
        settings = work / name / "model-config.yaml"
        settings.parent.mkdir()
        settings.write_text(text)
        archive(store, name, "probe_handler", "3.1.4" if name == "withyaml" else "1.0", config_file=settings)
    for name in ("doubler", "peritem", "initerr", "badimport", "twoclass"):
        archive(store, name, f"{name}_handler")
    archive(store, "entry", "entry_handler:work")
    archive(store, "lin", "lin_handler", serialized_file=_scripted(_Lin(), work / "lin.pt"))
    add_classifier(store, work, "resnet18", _resnet18())
    for name in ("mnist", "mnist_eager"):
        add_mnist(store, work, name, torch.nn.Linear(784, 10))
    (store / "notzip.mar").write_text("no archive")
    with zipfile.ZipFile(store / "nomanifest.mar", "w") as file:
        file.writestr("handler.py", "def handle(data, context): ...")


def add_classifier(store: Path, work: Path, name: str, network: torch.nn.Module) -> Path:
    """An archive with TorchServe's own image_classifier. network: [N, 3, 224, 224] -> logits [N, 1000]."""
    labels = work / "index_to_name.json"
    labels.write_text(json.dumps(_LABELS))
    weights = _scripted(network, work / f"{name}.pt")
    return archive(store, name, "image_classifier", serialized_file=weights, extra_files=labels)


def add_mnist(store: Path, work: Path, name: str, linear: torch.nn.Linear) -> Path:
    """An archive of an eager model: a file with its class, and the weights of its only layer."""
    weights = work / f"{name}.pt"
    torch.save({f"linear.{key}": value for key, value in linear.state_dict().items()}, weights)
    return archive(store, name, "mnist_handler", serialized_file=weights, model_file=HANDLERS / "mnist_network.py")


def fitted(answers: dict[int, np.ndarray]) -> torch.nn.Linear:
    """A layer that answers each of some inputs with its class. answers: class -> float [28, 28], normalised."""
    torch.manual_seed(0)
    layer = torch.nn.Linear(784, 10)
    inputs = torch.tensor(np.stack([pixels.reshape(784) for pixels in answers.values()]), dtype=torch.float32)
    wanted = 5 * torch.nn.functional.one_hot(torch.tensor(list(answers)), 10).float()
    with torch.no_grad():
        layer.weight += (torch.linalg.pinv(inputs) @ (wanted - layer(inputs))).T
    return layer


def small_classifier() -> torch.nn.Module:
    """One convolution and one linear layer: [N, 3, 224, 224] -> logits [N, 1000]."""
    torch.manual_seed(0)
    pooled = (torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(8, 1000))
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 7, stride=4), torch.nn.ReLU(), *pooled)


class _Lin(torch.nn.Module):
    """2 x + 1."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * x + 1


def _resnet18() -> torch.nn.Module:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    return resnet18(weights=None)


def _scripted(network: torch.nn.Module, file: Path) -> Path:
    with jit_warnings_ignored():
        torch.jit.script(network.eval()).save(str(file))
    return file


def picture(mode: str = "RGB", form: str = "JPEG", size: tuple[int, int] = (320, 240)) -> bytes:
    """An encoded picture with smooth colours, the same each time."""
    across, down = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 5, size[1]))
    waves = [np.sin(across + phase) * np.cos(down - phase) for phase in (0, 1, 2)]
    pixels = (127 + 120 * np.stack(waves, axis=-1)).astype(np.uint8)
    file = io.BytesIO()
    with contextlib.closing(Image.fromarray(pixels).convert(mode)) as image:
        image.save(file, form)
    return file.getvalue()


def as_base64(data: bytes) -> str:
    """Base64 text."""
    return base64.b64encode(data).decode()
