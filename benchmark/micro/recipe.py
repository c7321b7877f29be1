"""What a recipe's crops say of int8 that is good and of int8 that is spoilt: `python -m benchmark recipe`."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from rich.console import Console

from benchmark.harness.results import print_table
from models.bundles.spec import IMAGENET
from models.engines.base import Probabilities
from models.images.preprocess import Pixels
from models.optimize.candidates import Candidate, Job, openvino
from models.optimize.contestant import Contestant, Setting
from models.optimize.evidence import gather
from models.optimize.fidelity import compare
from models.optimize.image_set import EncodedImage, ImageSet, unlabelled
from models.optimize.recipes import LIMITS, recipe_for
from models.optimize.sources import WeightsChoice, resolve
from models.optimize.timing import Rounds

Change = Callable[[Job], Job]
_SETTING, _SIZE, _ROUNDS = Setting(2), 8, 10


def add_command(commands: Any) -> None:
    """Adds `recipe` to the command line."""
    parser = commands.add_parser("recipe", help=__doc__)
    parser.add_argument("--arch", default="efficientnet_lite0", help="architecture with a recipe [%(default)s]")
    parser.add_argument("--photos", type=Path, metavar="FOLDER", help="photos to compare on, too")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Builds int8 in several ways, and asks each about the recipe's crops and about photos."""
    weights = resolve(WeightsChoice(options.arch), Console(stderr=True))
    recipe = recipe_for(weights.source)
    if recipe is None:
        raise SystemExit(f"benchmark recipe: there is no recipe for {options.arch}")
    found = unlabelled(options.photos) if options.photos else []
    crops = gather(weights, recipe.images())
    photos = (
        gather(weights, ImageSet(photos=[EncodedImage(each.file.read_bytes()) for each in found]))
        if found
        else crops
    )
    job = Job(weights.network(), weights.preprocess, (_SIZE,), crops.calibration)
    rows, seen_by = [], "photos" if found else "crops, first label"
    with contextlib.ExitStack() as stack:
        built = {name: stack.enter_context(_built(*each, job, weights.labels)) for name, each in _ways().items()}
        speeds = _speeds(built)
        for name, each in built.items():
            shown, seen = (each.scores(of.pixels, _SETTING) for of in (crops, photos))
            near = compare(crops.expected, shown, LIMITS.gap).top1_agreement
            same, speed = f"{_same(photos.expected, seen):.1%}", f"{speeds[name]:.0f}"
            rows.append({"built": name, "crops": f"{near:.1%}", seen_by: same, f"images/s at {_SIZE}": speed})
    print_table("int8 of a recipe", rows)
    return 0


def _same(expected: Probabilities, actual: Probabilities) -> float:
    """Share of the same first label."""
    return float((expected.argmax(axis=1) == actual.argmax(axis=1)).mean())


def _ways() -> dict[str, tuple[Candidate, Change, Any]]:
    """By name: the candidate, what is changed in its job, and what is changed in its code meanwhile."""
    whole: Any = mock.patch.object(openvino, "_depthwise", lambda model: [])
    eight_bits: Any = mock.patch.object(openvino, "saturates_int8", lambda: False)
    nothing, generator = contextlib.nullcontext(), np.random.default_rng(0)
    on_noise = _calibrated_on(lambda pixels: generator.integers(0, 256, pixels.shape, np.uint8))
    return {
        "fp32": (openvino.FP32, _as_it_is, nothing),
        "int8, as it is built": (openvino.INT8, _as_it_is, nothing),
        "depthwise convolutions in int8, too": (openvino.INT8, _as_it_is, whole),
        "8 bits, where the processor needs 7": (openvino.INT8, _as_it_is, eight_bits),
        "calibrated on noise": (openvino.INT8, on_noise, nothing),
        "calibrated on black": (openvino.INT8, _calibrated_on(np.zeros_like), nothing),
        "normalised with ImageNet's mean and std": (openvino.INT8, _normalised_otherwise, nothing),
    }


def _as_it_is(job: Job) -> Job:
    return job


def _calibrated_on(change: Callable[[Pixels], Pixels]) -> Change:
    return lambda job: dataclasses.replace(job, calibration=change(job.calibration))


def _normalised_otherwise(job: Job) -> Job:
    preprocess = dataclasses.replace(job.preprocess, mean=IMAGENET.mean, std=IMAGENET.std)
    return dataclasses.replace(job, preprocess=preprocess)


@contextlib.contextmanager
def _built(
    candidate: Candidate, change: Change, patch: Any, job: Job, labels: tuple[str, ...]
) -> Iterator[Contestant]:
    with tempfile.TemporaryDirectory() as folder:
        built = Contestant(candidate, change(job), "recipe", labels, Path(folder))
        with patch:
            built.build()
        yield built
        built.close()


def _speeds(built: dict[str, Contestant]) -> dict[str, float]:
    """Images per second: medians of rounds in which each takes its turn."""
    timed = {name: Rounds((_SIZE,), (_SETTING,)) for name in built}
    for name, rounds in timed.items():
        rounds.settle(built[name])
    for _ in range(_ROUNDS):
        for name, rounds in timed.items():
            rounds.add(built[name])
    return {name: _SIZE * 1000 / rounds.speeds[0].lone_ms for name, rounds in timed.items()}
