"""Whether a new version gives the images of a golden set their labels, before it serves."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from batching import DeadlineExceeded
from models.bundles.labels import Labels
from models.errors import ImageError, ModelError
from runtime.deployment import Deployment
from runtime.golden_set import GoldenImage, GoldenSet, GoldenSetError
from runtime.inputs import Image
from runtime.outputs import Scores
from runtime.phases import PhaseClock


class GoldenRefusal(ModelError):
    """A version that does not pass its golden set. The message is one line, with the figures.

    Attributes:
        report: None where the version failed on an image.
    """

    def __init__(self, message: str, report: GoldenReport | None = None) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class GoldenRules:
    """What a version has to reach.

    Attributes:
        least_agreement: share of the images whose best label must be the expected one, above 0 and at most 1. By
            default 0.9: labels in another order are right on hardly any image, while a lower precision changes a
            few undecided ones. Of fewer than ten images it asks for all.
        latency_ms: longest median time of one image, in milliseconds; None: any. Not of the 99th percentile, which
            is the slowest image of a small set, and slow when anything else ran meanwhile.
        timeout_s: longest time for one image, in seconds.
    """

    least_agreement: float = 0.9
    latency_ms: float | None = None
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.least_agreement <= 1:
            raise ValueError(f"least_agreement must be above 0 and at most 1, not {self.least_agreement:g}")
        if self.latency_ms is not None and not self.latency_ms > 0:
            raise ValueError(f"latency_ms must be above 0, not {self.latency_ms:g}")

    def required(self, images: int) -> int:
        """How many of that many images must be right."""
        return math.ceil(round(self.least_agreement * images, 6))  # 0.28 * 25 is a little above 7


@dataclass(frozen=True)
class GoldenReport:
    """How a version did on a golden set.

    Attributes:
        images: of the set.
        right: those that got the expected label.
        required: how many must be right.
        p50_ms: median time of one image from file to scores, alone, in milliseconds.
        p99_ms: the 99th percentile, by nearest rank: of fewer than 100 images the slowest.
        first_wrong: the first image that is not right, in words; "" where all are.
    """

    images: int
    right: int
    required: int
    p50_ms: float
    p99_ms: float
    first_wrong: str = ""

    @property
    def agreement(self) -> float:
        """Share of the images that are right."""
        return self.right / self.images

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "images": self.images,
            "right": self.right,
            "required": self.required,
            "agreement": round(self.agreement, 6),
            "p50_ms": round(self.p50_ms, 3),
            "p99_ms": round(self.p99_ms, 3),
            "first_wrong": self.first_wrong or None,
        }

    def refusal(self, rules: GoldenRules) -> str:
        """Why the version must not serve, in one line; "" where it may."""
        if self.right < self.required:
            return (
                f"{self.right} of {self.images} golden images have the expected label, at least {self.required} "
                f"are required; first wrong: {self.first_wrong}"
            )
        if rules.latency_ms is not None and self.p50_ms > rules.latency_ms:
            return (
                f"the median golden image takes {self.p50_ms:.3g} ms, at most {rules.latency_ms:.3g} ms are "
                f"allowed ({self.images} images, one at a time)"
            )
        return ""


async def check(
    deployment: Deployment[Any, Any],
    golden: GoldenSet,
    rules: GoldenRules,
    clock: Callable[[], float] = time.monotonic,
) -> GoldenReport:
    """Runs a golden set through a deployment that has started and has no clients yet.

    Every image goes the way of a client's, one at a time, after a warm-up.

    Args:
        deployment: of the new version; an image classifier.
        golden: images and labels.
        rules: what it has to reach.
        clock: tells the time in seconds.

    Raises:
        GoldenSetError: an image cannot be read or decoded, the model has no such label, or is no image classifier.
        GoldenRefusal: the version is not good enough, too slow, or fails on an image.
    """
    _check_labels(golden, await _labels(deployment, rules, clock))
    await _ask(deployment, golden.images[0], rules, clock)  # its decoder may be loaded now
    wrong, seconds = [], []
    for image in golden.images:
        label, took = await _ask(deployment, image, rules, clock)
        seconds.append(took)
        if label != image.label:
            wrong.append(f"{image.name} is {label!r}, expected {image.label!r}")
    images = len(golden.images)
    first_wrong, p50_ms, p99_ms = "".join(wrong[:1]), _quantile(seconds, 0.5), _quantile(seconds, 0.99)
    right = images - len(wrong)
    report = GoldenReport(images, right, rules.required(images), 1000 * p50_ms, 1000 * p99_ms, first_wrong)
    if refusal := report.refusal(rules):
        raise GoldenRefusal(refusal, report)
    return report


async def _labels(deployment: Deployment[Any, Any], rules: GoldenRules, clock: Callable[[], float]) -> Labels:
    """The model's own example warms it up, and tells its labels."""
    name, example = deployment.model.facts.name, deployment.model.example()
    if not isinstance(example, Image):
        raise GoldenSetError(_no_classifier(name))
    return (await _infer(deployment, example, "the model's own example", rules, clock)).labels


def _no_classifier(name: str) -> str:
    return f"{name} is no image classifier, and golden sets are for those"


def _check_labels(golden: GoldenSet, labels: Labels) -> None:
    known = set(labels)
    for image in golden.images:
        if image.label not in known:
            raise GoldenSetError(
                f"golden image {image.name} has the label {image.label!r}, which the model does not know"
            )


async def _ask(
    deployment: Deployment[Any, Any], image: GoldenImage, rules: GoldenRules, clock: Callable[[], float]
) -> tuple[str, float]:
    """The best label, and the seconds that it took."""
    given = Image(await asyncio.to_thread(image.read))
    began = clock()
    scores = await _infer(deployment, given, f"golden image {image.name}", rules, clock)
    return scores.top(1)[0].label, clock() - began


async def _infer(
    deployment: Deployment[Any, Any], given: Image, what: str, rules: GoldenRules, clock: Callable[[], float]
) -> Scores:
    try:
        output = await deployment.infer(given, PhaseClock(clock), time.monotonic() + rules.timeout_s)
    except ImageError as error:
        raise GoldenSetError(f"{what} cannot be decoded ({error})") from error
    except DeadlineExceeded:
        raise GoldenRefusal(f"{what}: no answer within {rules.timeout_s:g} s") from None
    except Exception as error:
        raise GoldenRefusal(f"{what}: {_one_line(error)}") from error
    if not isinstance(output, Scores):
        raise GoldenSetError(_no_classifier(deployment.model.facts.name))
    return output


def _one_line(error: BaseException) -> str:
    cause = f" ({_one_line(error.__cause__)})" if error.__cause__ else ""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}{cause}"


def _quantile(values: Sequence[float], share: float) -> float:
    """By nearest rank."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
