"""The bundle of the comparison: made where there are no pretrained weights, and what all candidates share."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.harness.server import ROOT
from models.bundles.bundle import MANIFEST, ModelBundle
from models.bundles.table import Table, images_per_s
from models.engines.compatibility import misfit
from models.errors import BundleError

BUNDLE = ROOT / "models" / "store" / "benchmark"
FP32 = "torchscript-fp32"
EAGER = "eager-fp32"
_RESIZE, _CROP = 256, 224  # as torchvision's ResNet18 for ImageNet
_SMALLEST = "0.57"  # of the digits that it was trained on, as a share of the image's height
# In percent. Enlarged, the network is sure of no image, and int8 changes some of its winners: it is for speed.
_AGREEMENT = "95"


def benchmark_bundle(folder: Path = BUNDLE) -> Path:
    """Makes the bundle unless one for this machine is there: trains, gives it ImageNet's sizes, optimises.

    ResNet18 that knows digits: its answers differ from image to image. One with random weights says the same to
    all, so an answer that went to the wrong client would not show. It takes a few minutes.

    Raises:
        RuntimeError: a step failed.
    """
    if (folder / MANIFEST).exists() and not misfit(ModelBundle.load(folder).spec):
        return folder
    weights = folder.with_name(folder.name + ".weights")
    shutil.rmtree(weights, ignore_errors=True)
    _step(
        "training ResNet18 on digits",
        "-m",
        "examples.digits.train",
        "--arch",
        "resnet18",
        "--output",
        str(weights),
    )
    enlarge(weights)
    images = folder.with_name(folder.name + ".images")
    shutil.rmtree(images, ignore_errors=True)
    _step("drawing digits", "-m", "examples.digits.folders", "--output", str(images), "--smallest", _SMALLEST)
    words = ("optimize_model_for_inference.py", "--bundle", str(weights), "--output", str(folder), "--force")
    digits = ("--pictures", str(images / "validation"), "--calibration", str(images / "calibration"))
    _step("optimising it for this machine", *words, *digits, "--min-agreement", _AGREEMENT)
    shutil.rmtree(weights)
    shutil.rmtree(images)
    return folder


def _step(what: str, *words: str) -> None:
    print(f"serve-compare: {what} …", flush=True)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} failed with {done.returncode}")


def enlarge(folder: Path) -> ModelBundle:
    """Gives a bundle the sizes of ImageNet's ResNet18; what was measured at its own size is left out."""
    bundle = ModelBundle.load(folder)
    preprocess = dataclasses.replace(bundle.spec.preprocess, resize_size=_RESIZE, crop_size=_CROP)
    spec = dataclasses.replace(
        bundle.spec, name="benchmark", preprocess=preprocess, fidelity={}, latency_ms={}, example="images/cat.jpg"
    )
    return ModelBundle.write(folder, spec, bundle.labels)


class Shared(NamedTuple):
    """An engine of the bundle that SnapServe and the peers run."""

    name: str
    precision: str


def shared_engine(bundle: ModelBundle, named: str | None = None) -> Shared:
    """The engine that SnapServe and the peers share: the fastest TorchScript file, which all of them can load.

    Args:
        bundle: where the optimiser has written what it timed.
        named: takes this one instead.

    Raises:
        BundleError: the bundle lacks an engine that the comparison needs, or the named one is no TorchScript file.
    """
    have, table = bundle.spec.engines, Table.read(bundle.file.parent)
    for name in (EAGER, FP32, *([named] if named else [])):
        if name not in have:
            reason = table.refusal(name)
            why = f": {reason}" if reason else "; optimise it anew"
            raise BundleError(f"{bundle.file.parent}: has no engine {name}{why}")
    files = {name: each for name, each in have.items() if each.kind == "torchscript" and not each.holds_weights}
    if named and named not in files:
        raise BundleError(f"--shared {named}: the peers load TorchScript files only: {', '.join(files)}")

    def worth(name: str) -> tuple[float, bool]:
        return images_per_s(table.fastest_ms(name, files[name])), files[name].precision == "int8"

    name = named or max(files, key=worth)
    return Shared(name, files[name].precision)


def engine_name(bundle: ModelBundle) -> str:
    """The name in the bundle of the engine that it serves by default; "" where it has only one."""
    return next((name for name, engine in bundle.spec.engines.items() if engine == bundle.spec.engine), "")


def reference_scores(folder: Path, images: Sequence[Path]) -> list[list[float]]:
    """The bundle's weights as torchvision runs them: its preset on a PIL image, eager fp32.

    Returns:
        One row of probabilities per image.
    """
    import torch
    from PIL import Image

    from benchmark.peers.model import torchvision_preset
    from models.engines.torchscript import load_network

    bundle = ModelBundle.load(folder).with_engine(EAGER)
    preset = torchvision_preset(bundle.spec.preprocess)
    network, rows = load_network(bundle).eval(), []
    with torch.inference_mode():
        for image in images:
            pixels = preset(Image.open(image).convert("RGB")).unsqueeze(0)
            rows.append(network(pixels).softmax(dim=1)[0].tolist())
    return rows
