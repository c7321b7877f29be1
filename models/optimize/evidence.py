"""The pictures by which every candidate is judged, prepared once, and what the reference says about them."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.engines.base import Probabilities
from models.errors import PictureError
from models.optimize.errors import FidelityError
from models.optimize.fidelity import MAX_LEVELS, PREPARED, PREPARED_GAP, compare
from models.optimize.pictures import Picture
from models.optimize.weights import Weights
from models.preprocess import Pixels, Preprocessor

_BATCH = 8
_LEVEL_CHECKS = 64  # photos whose every pixel is compared


@dataclass(frozen=True)
class Evidence:
    """What candidates are asked, and the right answers. Photos come first, synthetic pictures after them.

    Attributes:
        pixels: uint8 [N, crop_size, crop_size, 3], as the service prepares them.
        expected: float32 [N, num_classes]: eager fp32 on these pixels.
        end_to_end: float32 [N, num_classes]: eager fp32 on what torchvision's own transforms make of the files.
        labels: int64 [N], the class that is shown; -1 where nobody knows.
        photos: how many of the pictures are somebody's, not synthetic.
        calibration: uint8 [M, crop_size, crop_size, 3], from none of the pictures above.
        reference: what has given the answers, in words; eager fp32 stands for it above.
    """

    pixels: Pixels
    expected: Probabilities
    end_to_end: Probabilities
    labels: NDArray[np.int64]
    photos: int
    calibration: Pixels
    reference: str = "eager fp32"

    @property
    def reference_accuracy(self) -> float | None:
        """Top-1 of torchvision's own pipeline on the labelled pictures."""
        return accuracy(self.end_to_end, self.labels)


def accuracy(scores: Probabilities, labels: NDArray[np.int64]) -> float | None:
    """Share of the labelled pictures whose best score is their label's; None if none is labelled."""
    known = labels >= 0
    return float((scores[known].argmax(axis=1) == labels[known]).mean()) if known.any() else None


def gather(
    weights: Weights,
    calibration: Sequence[Picture],
    photos: Sequence[Picture],
    synthetic: Sequence[Picture],
    on_batch: Callable[[int], None] = lambda done: None,
) -> Evidence:
    """Prepares pictures in the service's way and in torchvision's, and asks eager fp32 about both.

    Files that cannot be decoded are left out.

    Raises:
        FidelityError: the two ways differ by more than the contract allows.
    """
    preprocessor = Preprocessor(weights.preprocess)
    check_levels(weights, preprocessor, photos[:_LEVEL_CHECKS])
    readable = list(_prepared(preprocessor, photos))
    shown = readable + list(_prepared(preprocessor, synthetic))
    network = weights.reference_network()
    expected: list[Probabilities] = []
    end_to_end: list[Probabilities] = []
    for start in range(0, len(shown), _BATCH):
        batch = shown[start : start + _BATCH]
        served = torch.from_numpy(np.stack([pixels for _, pixels in batch]))
        expected.append(_ask(weights, network, weights.reference_input(served)))
        files = [weights.transforms(upright_rgb(picture.data)) for picture, _ in batch]
        end_to_end.append(_ask(weights, network, torch.stack(files)))
        on_batch(start + len(batch))
    evidence = Evidence(
        pixels=np.stack([pixels for _, pixels in shown]),
        expected=np.concatenate(expected),
        end_to_end=np.concatenate(end_to_end),
        labels=np.array([-1 if picture.label is None else picture.label for picture, _ in shown], np.int64),
        photos=len(readable),
        calibration=_stacked([pixels for _, pixels in _prepared(preprocessor, calibration)], weights),
        reference=weights.reference,
    )
    compare(evidence.end_to_end, evidence.expected, PREPARED_GAP).check(PREPARED)
    return evidence


def upright_rgb(data: bytes) -> Image.Image:
    """A picture as torchvision's users open it, and without models/preprocess.py; transparency lies on white."""
    with Image.open(io.BytesIO(data)) as opened:
        picture = ImageOps.exif_transpose(opened)
        if not picture.has_transparency_data:
            return picture.convert("RGB")
        rgba = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def check_levels(weights: Weights, preprocessor: Preprocessor, photos: Sequence[Picture]) -> None:
    """Raises FidelityError where the pixels of the whole picture are not those of torchvision's transforms."""
    for number, photo in enumerate(photos):
        try:
            picture = preprocessor.open(photo.data).convert("RGB")
        except PictureError:
            continue
        pixels = torch.tensor(preprocessor.crop(picture))
        levels = float((pixels - weights.reference_pixels(picture)).abs().max())
        if not levels <= MAX_LEVELS:
            raise FidelityError(
                f"preparing picture {number + 1} differs from torchvision by {levels:.1f} of 255 levels, "
                f"at most {MAX_LEVELS:g} is allowed"
            )


def _prepared(preprocessor: Preprocessor, pictures: Sequence[Picture]) -> Iterator[tuple[Picture, Pixels]]:
    for picture in pictures:
        with suppress(PictureError):
            yield picture, preprocessor(picture.data)


def _stacked(pixels: Sequence[Pixels], weights: Weights) -> Pixels:
    side = weights.preprocess.crop_size
    return np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)


def _ask(weights: Weights, network: torch.nn.Module, inputs: torch.Tensor) -> Probabilities:
    with torch.inference_mode():
        scores: Probabilities = weights.scores(network(inputs)).numpy()
        return scores
