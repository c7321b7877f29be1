"""The bundle of the comparison where there are no pretrained weights: ResNet18 at 224 that knows digits."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

from benchmark.server_process import ROOT
from models.bundles.bundle import MANIFEST, ModelBundle
from models.engines.compatibility import misfit

BUNDLE = ROOT / "models" / "store" / "benchmark"
_RESIZE, _CROP = 256, 224  # as torchvision's ResNet18 for ImageNet
_SMALLEST = "0.57"  # of the digits that it was trained on, as a share of the picture's height
# In percent. Enlarged, the network is sure of no picture, and int8 changes some of its winners: it is for speed.
_AGREEMENT = "95"


def benchmark_bundle(folder: Path = BUNDLE) -> Path:
    """Makes the bundle unless one for this machine is there: trains, gives it ImageNet's sizes, optimises.

    A trained network, whose answers differ from picture to picture: one with random weights says the same to all,
    so nobody would see an answer that went to the wrong client. It takes a few minutes.

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
    pictures = folder.with_name(folder.name + ".pictures")
    shutil.rmtree(pictures, ignore_errors=True)
    _step("drawing digits", "-m", "examples.digits.folders", "--output", str(pictures), "--smallest", _SMALLEST)
    words = ("optimize_model_for_inference.py", "--bundle", str(weights), "--output", str(folder), "--force")
    digits = ("--pictures", str(pictures / "validation"), "--calibration", str(pictures / "calibration"))
    _step("optimising it for this machine", *words, *digits, "--min-agreement", _AGREEMENT)
    shutil.rmtree(weights)
    shutil.rmtree(pictures)
    return folder


def enlarge(folder: Path) -> ModelBundle:
    """Gives a bundle the sizes of ImageNet's ResNet18; what was measured at its own size is left out."""
    bundle = ModelBundle.load(folder)
    preprocess = dataclasses.replace(bundle.spec.preprocess, resize_size=_RESIZE, crop_size=_CROP)
    spec = dataclasses.replace(
        bundle.spec, name="benchmark", preprocess=preprocess, fidelity={}, latency_ms={}, example="images/cat.jpg"
    )
    return ModelBundle.write(folder, spec, bundle.labels)


def _step(what: str, *words: str) -> None:
    print(f"serve-compare: {what} …", flush=True)
    done = subprocess.run([sys.executable, *words], cwd=ROOT, check=False)
    if done.returncode:
        raise RuntimeError(f"{what} failed with {done.returncode}")
