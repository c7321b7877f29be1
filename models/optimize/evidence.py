"""The images by which every candidate is judged, prepared once, and what the reference says about them."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from models.engines.base import Probabilities
from models.errors import ImageError
from models.images.preprocess import Pixels, Preprocessor
from models.optimize.errors import FidelityError
from models.optimize.fidelity import MAX_LEVELS, PREPARED, PREPARED_GAP, compare
from models.optimize.image_set import EncodedImage, ImageSet
from models.optimize.weights import Weights

_BATCH = 8
_LEVEL_CHECKS = 32  # photos whose every pixel is compared
_ENOUGH_FOR_FLOATS = 64  # unlabelled photos, as every one must have the reference's winner

Prepared = tuple[EncodedImage, Pixels]


@dataclass(frozen=True)
class Evidence:
    """What candidates are asked, and the right answers. Photos come first, synthetic images after them.

    Attributes:
        pixels: uint8 [N, crop_size, crop_size, 3], as the service prepares them.
        expected: float32 [N, num_classes]: eager fp32 on these pixels.
        end_to_end: float32 [K, num_classes]: eager fp32 on what the library's own transforms make of the first K
            files: of all where any is labelled, else of some.
        labels: int64 [N], the class that is shown; -1: unknown.
        photos: how many of the images are given, not synthetic.
        calibration: uint8 [M, crop_size, crop_size, 3], from none of the images above.
        reference: what has given the answers, in words; eager fp32 stands for it above.
        independent: each label has a score of its own; they need not sum to 1.
    """

    pixels: Pixels
    expected: Probabilities
    end_to_end: Probabilities
    labels: NDArray[np.int64]
    photos: int
    calibration: Pixels
    reference: str = "eager fp32"
    independent: bool = False

    @property
    def reference_accuracy(self) -> float | None:
        """Top-1 of the library's own pipeline on the labelled images."""
        return accuracy(self.end_to_end, self.labels[: len(self.end_to_end)])

    def for_precision(self, precision: str) -> Evidence:
        """What a candidate of that precision is asked: all of it, or less where that tells as much."""
        if precision == "int8" or (self.labels >= 0).any() or self.photos <= _ENOUGH_FOR_FLOATS:
            return self
        kept = np.r_[0:_ENOUGH_FOR_FLOATS, self.photos : len(self.pixels)]
        return dataclasses.replace(
            self,
            pixels=self.pixels[kept],
            expected=self.expected[kept],
            end_to_end=self.end_to_end[:_ENOUGH_FOR_FLOATS],
            labels=self.labels[kept],
            photos=_ENOUGH_FOR_FLOATS,
        )


def accuracy(scores: Probabilities, labels: NDArray[np.int64]) -> float | None:
    """Share of the labelled images whose best score is their label's; None if none is labelled."""
    known = labels >= 0
    return float((scores[known].argmax(axis=1) == labels[known]).mean()) if known.any() else None


def gather(weights: Weights, images: ImageSet, is_enough: Callable[[], bool] = lambda: False) -> Evidence:
    """Prepares images in the service's way and in the library's, and asks eager fp32 about both.

    Files that cannot be decoded are left out.

    Args:
        weights: the reference.
        images: to calibrate on, to ask about, and synthetic ones to ask about.
        is_enough: asked after each batch; the photos that are left are then not asked about.

    Raises:
        FidelityError: the two ways differ by more than the contract allows.
    """
    preprocessor = Preprocessor(weights.preprocess)
    check_levels(weights, preprocessor, images.photos[:_LEVEL_CHECKS])
    # The layout changes nothing but the speed.
    network = weights.reference_network().to(memory_format=torch.channels_last)
    labelled = any(image.label is not None for image in images.photos)
    both = len(images.photos) if labelled else _LEVEL_CHECKS
    readable = _prepared(preprocessor, images.photos)
    asked = list(_asked(weights, network, readable, both, is_enough))
    synthetic = _prepared(preprocessor, images.synthetic)
    extra = list(
        _asked(weights, network, synthetic, 0 if labelled and asked else both - len(asked) * _BATCH, lambda: False)
    )
    prepared = [each for batch in (*asked, *extra) for each in batch.prepared]
    evidence = Evidence(
        pixels=np.stack([pixels for _, pixels in prepared]),
        expected=np.concatenate([batch.expected for batch in (*asked, *extra)]),
        end_to_end=np.concatenate(
            [batch.end_to_end for batch in (*asked, *extra) if batch.end_to_end is not None]
        ),
        labels=np.array([-1 if image.label is None else image.label for image, _ in prepared], np.int64),
        photos=sum(len(batch.prepared) for batch in asked),
        calibration=_stacked([pixels for _, pixels in _prepared(preprocessor, images.calibration)], weights),
        reference=weights.reference,
        independent=weights.activation == "sigmoid" or len(weights.labels) == 1,
    )
    some = len(evidence.end_to_end)
    gap, independent = PREPARED_GAP, evidence.independent
    compare(evidence.end_to_end, evidence.expected[:some], gap, independent).check(PREPARED)
    return evidence


class _Batch(NamedTuple):
    """Images, and the reference's answers; by the library's own way for some only."""

    prepared: list[Prepared]
    expected: Probabilities
    end_to_end: Probabilities | None


def _asked(
    weights: Weights,
    network: torch.nn.Module,
    prepared: Iterator[Prepared],
    both: int,
    is_enough: Callable[[], bool],
) -> Iterator[_Batch]:
    """The first batch in any case; the first `both` images go the library's way, too."""
    done = 0
    while batch := list(islice(prepared, _BATCH)):
        served = torch.from_numpy(np.stack([pixels for _, pixels in batch]))
        expected, end_to_end = _ask(weights, network, weights.reference_input(served)), None
        if done < both:
            files = [weights.transforms(upright_rgb(image.data)) for image, _ in batch]
            end_to_end = _ask(weights, network, torch.stack(files))
        done += len(batch)
        yield _Batch(batch, expected, end_to_end)
        if is_enough():
            return


def upright_rgb(data: bytes) -> Image.Image:
    """An image as torchvision's users open it, without `models.images.preprocess`; transparency lies on white."""
    with Image.open(io.BytesIO(data)) as opened:
        image = ImageOps.exif_transpose(opened)
        if not image.has_transparency_data:
            return image.convert("RGB")
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")


def check_levels(weights: Weights, preprocessor: Preprocessor, photos: Sequence[EncodedImage]) -> None:
    """Raises FidelityError where the pixels of the whole image are not those of torchvision's transforms."""
    for number, photo in enumerate(photos):
        try:
            image = preprocessor.open(photo.data).convert("RGB")
        except ImageError:
            continue
        pixels = torch.tensor(preprocessor.crop(image))
        levels = float((pixels - weights.reference_pixels(image)).abs().max())
        if not levels <= MAX_LEVELS:
            raise FidelityError(
                f"preparing image {number + 1} differs from torchvision by {levels:.1f} of 255 levels, "
                f"at most {MAX_LEVELS:g} is allowed"
            )


def _prepared(preprocessor: Preprocessor, images: Sequence[EncodedImage]) -> Iterator[Prepared]:
    for image in images:
        with suppress(ImageError):
            yield image, preprocessor(image.data)


def _stacked(pixels: Sequence[Pixels], weights: Weights) -> Pixels:
    side = weights.preprocess.crop_size
    return np.stack(pixels) if pixels else np.empty((0, side, side, 3), np.uint8)


def _ask(weights: Weights, network: torch.nn.Module, inputs: torch.Tensor) -> Probabilities:
    with torch.inference_mode():
        inputs = inputs.contiguous(memory_format=torch.channels_last)
        scores: Probabilities = weights.scores(network(inputs)).numpy()
        return scores
