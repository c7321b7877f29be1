"""Short optimisations of the small classifier, in this process unless a test is about processes."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from models.optimize import optimizer, search
from models.optimize.candidates import torchscript
from models.optimize.command import main
from models.optimize.effort import Effort
from models.optimize.image_set import SAMPLES, ImageSet, deal, synthetic, unlabelled
from models.optimize.report import Report
from tests.models.small import SPEC, quiet

ROOT = Path(__file__).parents[3]
FP32 = torchscript.FP32
EFFORT = Effort(rounds=1, batch_sizes=(1, 2, 8), cores=1, is_isolated=False)


def sample_images():
    """The repository's photos, a third of them to calibrate on, and a few synthetic images."""
    calibration, photos = deal(unlabelled(SAMPLES), 8, 100)
    return ImageSet(calibration, photos, synthetic(SPEC.resize_size, 4))


def optimize(weights, output, *candidates, report=None, effort=EFFORT, images=None, budget=None):
    return optimizer.optimize(
        weights,
        candidates or (FP32,),
        output,
        report or Report(quiet()),
        images or sample_images(),
        effort,
        budget,
    )


def table_of(folder):
    """The rows of a bundle's table by name."""
    return {row["name"]: row for row in json.loads((folder / "table.json").read_text())["candidates"]}


def main_here(words):
    """The command in this process alone; the root script's test and test_isolation.py are about the others."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(search, "isolated", lambda make, *given: nullcontext(make(*given)))
        return main(words)
