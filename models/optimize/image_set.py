"""The images on which candidates are calibrated and judged: found, labelled, and kept apart."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from models.bundles.labels import Labels
from models.images.formats import sniff
from models.optimize.errors import UsageError

SAMPLES = Path(__file__).parents[2] / "images"  # the repository's sample images

_SNIFFED_BYTES = 64


@dataclass(frozen=True)
class EncodedImage:
    """An encoded image and, where it is known, the class that it shows."""

    data: bytes
    label: int | None = None


@dataclass(frozen=True)
class ImageSet:
    """What candidates are calibrated on and judged by; no image is in two of these."""

    calibration: Sequence[EncodedImage] = ()
    photos: Sequence[EncodedImage] = ()
    synthetic: Sequence[EncodedImage] = ()


@dataclass(frozen=True)
class ImageFile:
    """An image that is not read yet.

    Attributes:
        file: a JPEG, PNG or WebP file.
        name: its path inside the folder of images.
        label: the class that it shows, where it is known.
    """

    file: Path
    name: str
    label: int | None = None


def unlabelled(folder: Path) -> list[ImageFile]:
    """The JPEG, PNG and WebP files in `folder` and below; everything else is skipped."""
    return list(_files(folder, folder))


def labelled(folder: Path, labels: Labels) -> list[ImageFile]:
    """The images in one sub-folder per class.

    Sub-folders are named after labels, or numbered; or there are as many as labels, and their names stand in the
    order of the classes, as in ImageNet.

    Raises:
        UsageError: the sub-folders' names are none of this.
    """
    folders = sorted(each for each in folder.iterdir() if each.is_dir())
    classes = _classes([each.name for each in folders], labels)
    if classes is None or not folders:
        raise UsageError(
            f"--validation {folder}: its sub-folders must be named after labels or class numbers, or be "
            f"{len(labels)} in the order of the classes"
        )
    pairs = zip(folders, classes, strict=True)
    return [replace(found, label=label) for each, label in pairs for found in _files(each, folder)]


def _classes(names: Sequence[str], labels: Labels) -> list[int] | None:
    numbers = {label: index for index, label in enumerate(labels)}
    if all(name in numbers for name in names):
        return [numbers[name] for name in names]
    if all(name.isdecimal() and int(name) < len(labels) for name in names):
        return [int(name) for name in names]
    return list(range(len(labels))) if len(names) == len(labels) else None


def _files(folder: Path, root: Path) -> Iterator[ImageFile]:
    for file in sorted(folder.rglob("*")):
        if file.is_file():
            with file.open("rb") as stream:
                found = sniff(stream.read(_SNIFFED_BYTES))
            if found.supported:
                yield ImageFile(file, file.relative_to(root).as_posix())


def deal(
    found: Sequence[ImageFile],
    calibration: int,
    validation: int,
    taken: Sequence[EncodedImage] = (),
    share: float = 1 / 3,
) -> tuple[list[EncodedImage], list[EncodedImage]]:
    """Reads images and parts them: some to calibrate on, others to judge by. Equal files are one.

    The order is that of the hashes of their names: arbitrary, and the same every time.

    Args:
        found: to be parted; only as many are read as are needed.
        calibration: how many to calibrate on, at most.
        validation: how many to judge by, at most.
        taken: images that may be in neither part.
        share: of all images that may be calibrated on.
    """
    ordered = sorted(found, key=lambda each: hashlib.sha256(each.name.encode()).digest())
    images = _unique(ordered, {hashlib.sha256(each.data).digest() for each in taken})
    calibrating = list(islice(images, min(calibration, int(len(ordered) * share))))
    return calibrating, list(islice(images, validation))


def _unique(found: Sequence[ImageFile], seen: set[bytes]) -> Iterator[EncodedImage]:
    for each in found:
        data = each.file.read_bytes()
        digest = hashlib.sha256(data).digest()
        if digest not in seen:
            seen.add(digest)
            yield EncodedImage(data, each.label)


def synthetic(side: int, count: int, seed: int = 0) -> list[EncodedImage]:
    """Black, white, then by turns fine noise and soft coloured shapes: PNG files of `side` by `side` pixels."""
    generator = np.random.default_rng(seed)
    images = [Image.new("RGB", (side, side), colour) for colour in ("black", "white")]
    for number in range(2, count):
        grain = side if number % 2 == 0 else min(4, side)
        noise = Image.fromarray(generator.integers(0, 256, (grain, grain, 3), np.uint8))
        images.append(noise.resize((side, side), Image.Resampling.BICUBIC))
    return [EncodedImage(_png(image)) for image in images[:count]]


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)
    return stream.getvalue()
