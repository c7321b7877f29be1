"""Accuracy of a bundle's engines on labelled photos, beside its library: `python -m benchmark accuracy`."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmark.harness.results import add_parser, print_table, write_result

if TYPE_CHECKING:
    from models.engines.base import Probabilities

Classes = NDArray[np.int64]
_RESAMPLES = 10_000
_Z = 1.96  # of a 95 % interval
_ONLY = "weights"  # of a bundle with one engine, which holds its weights
_SHOWN = 20  # photos on which the served fp32 and the library differ


@dataclass(frozen=True)
class Result:
    """What one engine does.

    Attributes:
        name: of the engine in the bundle, or of the library's pipeline.
        right: photos whose best score is their label's.
        agrees: photos with the reference's winner.
        photos: in all.
        difference: its accuracy less the reference's, in points, with the ends of a 95 % interval (bootstrap over
            the photos).
        interval: of its own accuracy, in percent (Wilson, 95 %).
    """

    name: str
    right: int
    agrees: int
    photos: int
    difference: tuple[float, float, float]
    interval: tuple[float, float]


def result(name: str, answers: Classes, reference: Classes, labels: Classes) -> Result:
    """Compares answers with labels, and with a reference's answers.

    Args:
        name: of what answered.
        answers: int64 [N], the best class of each photo.
        reference: likewise.
        labels: int64 [N].
    """
    right, reference_right = answers == labels, reference == labels
    gain = right.astype(float) - reference_right
    return Result(
        name,
        int(right.sum()),
        int((answers == reference).sum()),
        len(labels),
        (100 * float(gain.mean()), *_bootstrap(gain)),
        wilson(int(right.sum()), len(labels)),
    )


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, in percent. https://www.jstor.org/stable/2276774"""
    share, z2 = successes / trials, _Z**2 / trials
    middle = share + z2 / 2
    spread = _Z * math.sqrt(share * (1 - share) / trials + z2 / 4 / trials)
    return 100 * (middle - spread) / (1 + z2), 100 * (middle + spread) / (1 + z2)


def _bootstrap(gain: NDArray[np.float64]) -> tuple[float, float]:
    """The 95 % interval of a mean, in points."""
    generator = np.random.default_rng(0)
    means = [generator.choice(gain, len(gain)).mean() for _ in range(_RESAMPLES)]
    low, high = np.percentile(means, (2.5, 97.5))
    return 100 * float(low), 100 * float(high)


def add_command(commands: Any) -> None:
    """Adds `accuracy` to the command line."""
    parser = add_parser(commands, "accuracy", __doc__, run)
    parser.add_argument("--model", type=Path, required=True, metavar="FOLDER", help="bundle of the optimiser")
    parser.add_argument(
        "--validation", type=Path, required=True, metavar="FOLDER", help="photos, in a folder for each label"
    )


def run(options: argparse.Namespace) -> int:
    """Asks the library's own pipeline and every engine of the bundle about all photos."""
    from models.bundles.bundle import ModelBundle
    from models.engines import UNSERVABLE
    from models.errors import ModelError
    from models.optimize.evidence import gather
    from models.optimize.image_set import EncodedImage, ImageSet, labelled
    from models.optimize.sources import WeightsChoice, resolve

    bundle = ModelBundle.load(options.model)
    weights = resolve(WeightsChoice("", bundle=options.model), Console(quiet=True))
    found = labelled(options.validation, bundle.labels)
    evidence = gather(
        weights, ImageSet(photos=[EncodedImage(each.file.read_bytes(), each.label) for each in found])
    )
    if len(evidence.labels) != len(found):
        raise ModelError(f"--validation {options.validation}: some of its photos cannot be decoded")
    reference = evidence.end_to_end.argmax(axis=1)
    library = result("eager fp32, the library's own pipeline", reference, reference, evidence.labels)
    results, answers = [library], {}
    for name, engine in (bundle.spec.engines or {_ONLY: bundle.spec.engine}).items():
        if engine.kind not in UNSERVABLE:
            chosen = bundle.with_engine(name) if bundle.spec.engines else bundle
            answers[name] = _scores(chosen, evidence.pixels).argmax(axis=1)
            results.append(result(name, answers[name], reference, evidence.labels))
    _show(bundle.spec.name, results)
    differing = {
        name: [found[index].name for index in np.flatnonzero(each != reference)] for name, each in answers.items()
    }
    _show_differing(bundle, differing)
    rows = [dataclasses.asdict(each) for each in results]
    write_result("accuracy", options, model=bundle.spec.name, differing=differing, results=rows)
    return 0


def _scores(bundle: Any, pixels: NDArray[np.uint8]) -> Probabilities:
    from models.engines import load_engine
    from models.engines.base import EngineOptions
    from models.optimize.contestant import engine_scores

    engine = load_engine(bundle, EngineOptions())
    scores = engine_scores(engine, pixels)
    engine.close()
    return scores


def _show(model: str, results: Sequence[Result]) -> None:
    rows = [
        {
            "engine": each.name,
            "right": f"{each.right} of {each.photos}",
            "top-1 (95 %)": "{:.1f} % ({:.1f} to {:.1f})".format(100 * each.right / each.photos, *each.interval),
            "difference (95 %)": "{:+.1f} points ({:+.1f} to {:+.1f})".format(*each.difference),
            "agrees": f"{100 * each.agrees / each.photos:.1f} %",
        }
        for each in results
    ]
    print_table(model, rows)


def _show_differing(bundle: Any, differing: dict[str, list[str]]) -> None:
    for name, photos in differing.items():
        engine = bundle.spec.engines.get(name, bundle.spec.engine)
        if engine.precision == "fp32" and photos:
            print(f"{name} and the library differ on: {', '.join(photos[:_SHOWN])}")
