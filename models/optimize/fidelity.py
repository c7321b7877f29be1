"""Proof that an engine is the classifier that torchvision's eager fp32 network is."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from models.engines.base import Probabilities
from models.optimize.errors import FidelityError

# Where the reference's best two scores are closer than this, either may come first.
DECISIVE_GAP = 1e-3
# By how much a label's own score may be off (sigmoid).
SCORE_GAP = 0.1
# The preprocessing contract allows 1 level of 255, bicubic 2 (models/images/preprocess.py); half is rounding.
MAX_LEVELS = 2.5
# int8 is not chosen on the word of fewer images.
ENOUGH_IMAGES = 256
FOR_A_CHECK = 384  # of which a third calibrates (`models.optimize.image_set.deal`)
_TOP = 5


@dataclass(frozen=True)
class Limits:
    """What a precision is allowed to change.

    Attributes:
        top1_agreement: least share of decisive images with the same winner.
        abs_diff: largest difference of any score.
        relative_diff: largest relative difference of the reference's five best scores. It also catches what
            absolute differences cannot: an untrained network gives every class about 1 / num_classes.
        accuracy_drop: how much less of the labelled images may be right, as a share of them.
        gap: how much less than the best score the reference may give to a winner that counts as the same.
    """

    top1_agreement: float
    abs_diff: float = 1.0
    relative_diff: float = math.inf
    accuracy_drop: float = 0.005
    gap: float = DECISIVE_GAP


LIMITS = {
    "fp32": Limits(1.0, 5e-3, 0.01),
    "fp16": Limits(0.995, 1.0, 0.25),
    "bf16": Limits(0.995, 1.0, 0.5),
    "int8": Limits(0.98),
}
# Of weights that were published with their accuracy only this is asked: that they are of the same classifier.
PUBLISHED = Limits(0.8, accuracy_drop=0.01)
# What preparing images in the service's way may change: levels by one, which tips what is nearly undecided.
PREPARED = Limits(0.995)
PREPARED_GAP = 0.05


@dataclass(frozen=True)
class Fidelity:
    """How an engine compares with the reference on the same pixels.

    Attributes:
        images: compared.
        decisive_images: those whose winner leads by more than `DECISIVE_GAP`.
        top1_agreement: share of the decisive images (of all, if none is decisive) with the same winner, or one
            that the reference gives nearly as much (`Limits.gap`).
        max_abs_diff: of any score.
        max_relative_diff: of the reference's five best scores.
        labelled_images: those whose class is known; the accuracies are None when there are none.
        accuracy: share of them that the engine gets right.
        reference_accuracy: that the reference gets right, prepared by torchvision's own transforms.
        reference: what was compared with, in words.
    """

    images: int
    decisive_images: int
    top1_agreement: float
    max_abs_diff: float
    max_relative_diff: float
    labelled_images: int = 0
    accuracy: float | None = None
    reference_accuracy: float | None = None
    reference: str = "eager fp32"

    def to_json(self) -> dict[str, Any]:
        """For the bundle."""
        rounded = {
            "top1_agreement": round(self.top1_agreement, 6),
            "max_abs_diff": float(f"{self.max_abs_diff:.3g}"),
            "max_relative_diff": float(f"{self.max_relative_diff:.3g}"),
        }
        return {"reference": self.reference, **dataclasses.asdict(self), **rounded}

    def check(self, limits: Limits) -> None:
        """Raises FidelityError, with the figure, when a limit is passed. NaN passes every limit."""
        if self.decisive_images and not self.top1_agreement >= limits.top1_agreement:
            raise FidelityError(
                f"agrees with {self.reference} on {self.top1_agreement:.2%} of {self.decisive_images} images, "
                f"at least {limits.top1_agreement:.2%} is asked"
            )
        if self.accuracy is not None and self.reference_accuracy is not None:
            drop = self.reference_accuracy - self.accuracy
            if not drop <= limits.accuracy_drop:
                allowed = f"at most {100 * limits.accuracy_drop:g} points less are allowed"
                raise FidelityError(
                    f"is right on {self.accuracy:.2%} of {self.labelled_images} images, {self.reference} on "
                    f"{self.reference_accuracy:.2%}; {allowed}"
                )
        for what, actual, limit in (
            ("scores differ", self.max_abs_diff, limits.abs_diff),
            ("the best scores differ, relative to themselves,", self.max_relative_diff, limits.relative_diff),
        ):
            if not actual <= limit:
                raise FidelityError(f"{what} from {self.reference} by {actual:.3g}, at most {limit:g} is allowed")


def compare(
    expected: Probabilities, actual: Probabilities, gap: float = DECISIVE_GAP, independent: bool = False
) -> Fidelity:
    """Compares two engines' answers to the same images.

    Args:
        expected: the reference's, float32 [N, num_classes].
        actual: likewise.
        gap: how much less than the best score the reference may give to the winner of `actual`.
        independent: each label has a score of its own, so there is no winner: an image agrees if no score is off
            by more than `SCORE_GAP`.
    """
    difference = np.abs(actual - expected)
    if independent or expected.shape[1] == 1:
        same, decisive = difference.max(axis=1) <= SCORE_GAP, np.ones(len(expected), bool)
    else:
        best = np.sort(expected, axis=1)[:, -2:]
        decisive = best[:, -1] - best[:, 0] > DECISIVE_GAP
        winner = np.take_along_axis(expected, actual.argmax(axis=1)[:, None], axis=1)[:, 0]
        same = best[:, -1] - winner <= gap
    return Fidelity(
        images=len(expected),
        decisive_images=int(decisive.sum()),
        top1_agreement=float(same[decisive].mean() if decisive.any() else same.mean()),
        max_abs_diff=float(difference.max()),
        max_relative_diff=_relative(expected, actual),
    )


def _relative(expected: Probabilities, actual: Probabilities) -> float:
    """The largest relative difference of the reference's best scores; of logits against the largest of all."""
    top = np.argsort(expected, axis=1)[:, -_TOP:]
    expected_top, actual_top = (np.take_along_axis(scores, top, axis=1) for scores in (expected, actual))
    floor = float(np.finfo(np.float32).tiny) if expected.min() >= 0 else float(np.abs(expected).max())
    return float((np.abs(actual_top - expected_top) / np.maximum(np.abs(expected_top), floor)).max())
