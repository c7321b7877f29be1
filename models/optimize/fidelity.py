"""Proof that an engine is the classifier that torchvision's eager fp32 network is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from models.engines.base import Engine, Probabilities
from models.optimize.errors import FidelityError
from models.optimize.weights import Weights
from models.preprocess import Pixels, Preprocessor

# Where the reference's best two scores are closer than this, either may come first.
DECISIVE_GAP = 1e-3
# The preprocessing contract allows 1 level of 255, bicubic 2 (models/preprocess.py); half a level is rounding.
MAX_LEVELS = 2.5
_REFERENCE_BATCH = 8
_TOP = 5


@dataclass(frozen=True)
class Limits:
    """What a precision is allowed to change.

    Attributes:
        top1_agreement: least share of decisive pictures with the same winner.
        abs_diff: largest difference of any score.
        relative_diff: largest relative difference of the reference's five best scores. It also catches what
            absolute differences cannot: an untrained network gives every class about 1 / num_classes.
    """

    top1_agreement: float
    abs_diff: float
    relative_diff: float


LIMITS = {
    "fp32": Limits(1.0, 5e-3, 0.01),
    "fp16": Limits(0.995, 1.0, 0.25),
}


@dataclass(frozen=True)
class Fidelity:
    """How an engine compares with the reference on the same pixels.

    Attributes:
        images: compared.
        decisive_images: those whose winner leads by more than `DECISIVE_GAP`.
        top1_agreement: share of the decisive images with the same winner (of all, if none is decisive).
        max_abs_diff: of any score.
        max_relative_diff: of the reference's five best scores.
    """

    images: int
    decisive_images: int
    top1_agreement: float
    max_abs_diff: float
    max_relative_diff: float

    def to_json(self) -> dict[str, Any]:
        """For the bundle."""
        return {
            "reference": "eager fp32",
            "images": self.images,
            "decisive_images": self.decisive_images,
            "top1_agreement": round(self.top1_agreement, 6),
            "max_abs_diff": float(f"{self.max_abs_diff:.3g}"),
            "max_relative_diff": float(f"{self.max_relative_diff:.3g}"),
        }

    def check(self, limits: Limits) -> None:
        """Raises FidelityError, with the figure, when a limit is passed. NaN passes every limit."""
        if self.decisive_images and not self.top1_agreement >= limits.top1_agreement:
            raise FidelityError(
                f"agrees with eager fp32 on {self.top1_agreement:.2%} of {self.decisive_images} pictures, "
                f"at least {limits.top1_agreement:.2%} is asked"
            )
        for what, actual, limit in (
            ("scores differ", self.max_abs_diff, limits.abs_diff),
            ("the best scores differ, relative to themselves,", self.max_relative_diff, limits.relative_diff),
        ):
            if not actual <= limit:
                raise FidelityError(f"{what} from eager fp32 by {actual:.3g}, at most {limit:g} is allowed")


def compare(expected: Probabilities, actual: Probabilities) -> Fidelity:
    """Compares two engines' answers to the same pictures: float32 [N, num_classes] each."""
    best = np.sort(expected, axis=1)[:, -2:]
    decisive = best[:, -1] - best[:, 0] > DECISIVE_GAP if expected.shape[1] > 1 else best[:, 0] > 1
    same = expected.argmax(axis=1) == actual.argmax(axis=1)
    top = np.argsort(expected, axis=1)[:, -_TOP:]
    expected_top, actual_top = (np.take_along_axis(scores, top, axis=1) for scores in (expected, actual))
    relative = np.abs(actual_top - expected_top) / np.maximum(expected_top, np.finfo(np.float32).tiny)
    return Fidelity(
        images=len(expected),
        decisive_images=int(decisive.sum()),
        top1_agreement=float(same[decisive].mean() if decisive.any() else same.mean()),
        max_abs_diff=float(np.abs(actual - expected).max()),
        max_relative_diff=float(relative.max()),
    )


def reference_scores(weights: Weights, pixels: Pixels) -> Probabilities:
    """torchvision's eager fp32 network on the CPU: uint8 [N, crop, crop, 3] -> float32 [N, num_classes]."""
    network: nn.Module = weights.reference_network()
    with torch.inference_mode():
        batches = torch.from_numpy(pixels).split(_REFERENCE_BATCH)
        scores = [network(weights.reference_input(batch)).softmax(dim=1) for batch in batches]
        answer: Probabilities = torch.cat(scores).numpy()
    return answer


def engine_scores(engine: Engine, pixels: Pixels) -> Probabilities:
    """The engine's answers, in batches of changing size, so that a size that is wrong shows."""
    answers: list[Probabilities] = []
    start = 0
    while start < len(pixels):
        size = min(len(answers) % engine.spec.max_batch_size + 1, 8)
        answers.append(engine.infer(pixels[start : start + size]))
        start += size
    return np.concatenate(answers)


def check_preprocessing(weights: Weights, preprocessor: Preprocessor, pictures: Sequence[Image.Image]) -> None:
    """Raises FidelityError where the served pixels are not those of torchvision's own transforms."""
    for number, picture in enumerate(pictures):
        pixels = torch.tensor(preprocessor.crop(picture))
        levels = float((pixels - weights.reference_pixels(picture)).abs().max())
        if not levels <= MAX_LEVELS:
            raise FidelityError(
                f"preparing picture {number + 1} differs from torchvision by {levels:.1f} of 255 levels, "
                f"at most {MAX_LEVELS:g} is allowed"
            )
