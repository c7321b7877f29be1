"""How near scaled decoding comes to the whole image, by margin: `python -m benchmark agreement`."""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image, ImageOps
from torchvision.transforms import functional  # type: ignore[import-untyped,unused-ignore]

from benchmark.harness.photos import PHOTOS, encode, photo
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT
from examples.digits.digits import Look, draw, load_samples
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET, PreprocessSpec
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.images.geometry import Pixels
from models.images.preprocess import MARGIN, Preprocessor

_BATCH = 32
_SCALES = (2, 4, 8)
_MARGINS = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
_JUST_ENOUGH = 1.02  # so that the scale is reached, and the sizes are no multiples of 8

_SPECS = {
    "bilinear": IMAGENET,
    "bicubic": PreprocessSpec(256, 224, "bicubic", IMAGENET.mean, IMAGENET.std),
}


def add_command(commands: Any) -> None:
    """Adds `agreement` to the command line."""
    parser = add_parser(commands, "agreement", __doc__, run)
    add_option(parser, "digits", 364, "held-out digits, all of them")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs: only their levels, against torchvision's")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, *_SCALES], help="of photos: 1, 2, 4, 8")
    parser.add_argument("--count", type=int, help="how many of the photos; default: all")


def run(options: argparse.Namespace) -> int:
    """Measures the worst case of each margin: images that have only just enough pixels for their scale."""
    torch.set_num_threads(1)
    if options.photos:
        files = sorted(file for file in options.photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
        rows = [row for scale in options.scales for row in photo_levels(files[: options.count], scale)]
        name, title = "photo-levels", "photos, as they are and enlarged, against torchvision's pixels"
    else:
        bundle = ModelBundle.load(ROOT / "models" / "demo")
        rows = [{"margin": each, **levels(each), **digits(bundle, each, options.digits)} for each in _MARGINS]
        name, title = "agreement", "scaled decoding against the whole image, by margin; worst case of each"
    print_table(title, rows)
    write_result(name, options, pillow=PIL.__version__, margin=MARGIN, rows=rows)
    return 0


def both(data: bytes, spec: PreprocessSpec, margin: float) -> tuple[Pixels, Pixels]:
    """The image scaled while it is decoded, and whole."""
    scaled, whole = Preprocessor(spec), Preprocessor(spec, scaled_decode=False)
    scaled.margin = margin
    return scaled(data), whole(data)


def levels(margin: float) -> Row:
    """Differences in levels, on photos at their own sharpness."""
    differences = []
    for path in PHOTOS:
        original = photo(path)
        data = encode(original, quality=95)
        for scale in _SCALES:
            side = int(min(original.size) / (scale * margin * _JUST_ENOUGH))
            spec = PreprocessSpec(side, side, "bilinear", IMAGENET.mean, IMAGENET.std)
            got, whole = both(data, spec, margin)
            differences.append(np.abs(got.astype(int) - whole).ravel())
    every = np.concatenate(differences)
    return {
        "mean_levels": round(float(every.mean()), 3),
        "p99_levels": int(np.percentile(every, 99)),
        "max_levels": int(every.max()),
    }


def digits(bundle: ModelBundle, margin: float, count: int) -> Row:
    """The demo's answers to big images of digits that it was not trained on."""
    engine = load_engine(bundle, EngineOptions(device="cpu", max_batch_size=_BATCH))
    scores, right = [], []
    images = islice(_digits(bundle.spec.preprocess.resize_size, margin), count)
    while batch := list(islice(images, _BATCH)):
        pairs = [both(data, bundle.spec.preprocess, margin) for data, _ in batch]
        rows = [engine.infer([pair[way] for pair in pairs]) for way in (0, 1)]
        scores.append(np.stack(rows))
        right.append(np.stack([row.argmax(1) == [digit for _, digit in batch] for row in rows]))
    engine.close()
    scaled, whole = np.concatenate(scores, axis=1)
    return {
        "digits": scaled.shape[0],
        "top1_agreement": round(float((scaled.argmax(1) == whole.argmax(1)).mean()), 4),
        "score_difference_p99": round(float(np.percentile(np.abs(scaled - whole).max(1), 99)), 4),
        "score_difference_max": round(float(np.abs(scaled - whole).max()), 4),
        "accuracy_scaled_whole": [round(float(each), 4) for each in np.concatenate(right, axis=1).mean(1)],
    }


def _digits(resize_size: int, margin: float) -> Iterator[tuple[bytes, int]]:
    inks, labels = load_samples(held_out=True)
    for number, (ink, label) in enumerate(zip(inks, labels, strict=True)):
        short = int(resize_size * _SCALES[number % 3] * margin * _JUST_ENOUGH) + 1
        size = (short * 4 // 3, short) if number % 2 else (short, short)
        look = Look(
            size, (0.5, 0.7, 0.85)[number % 3], white_on_black=number % 4 < 2, sharpness=1 + number % 5 / 2
        )
        yield encode(draw(ink, look).convert("RGB"), quality=90), int(label)


def photo_levels(files: list[Path], scale: int) -> list[Row]:
    """A row for each interpolation: the service's pixels against torchvision's, of the same JPEG.

    Args:
        files: photos.
        scale: 1: as they are; 2, 4, 8: enlarged until they are just decoded at 1/scale of their size.
    """
    differences: dict[str, list[Pixels]] = {name: [] for name in _SPECS}
    for data in _jpegs(files, scale):
        for name, spec in _SPECS.items():
            got, wanted = Preprocessor(spec)(data).astype(int), _by_torchvision(data, spec)
            differences[name].append(np.abs(got - wanted).astype(np.uint8))
    return [_row(name, scale, np.stack(each)) for name, each in differences.items()]


def _jpegs(files: list[Path], scale: int) -> Iterator[bytes]:
    for file in files:
        image = photo(file)
        if scale > 1:
            factor = _JUST_ENOUGH * MARGIN * IMAGENET.resize_size * scale / min(image.size)
            image = photo(file, (round(image.width * factor), round(image.height * factor)))
        yield file.read_bytes() if scale == 1 else encode(image, quality=92)


def _by_torchvision(data: bytes, spec: PreprocessSpec) -> Pixels:
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    mode = functional.InterpolationMode(spec.interpolation)
    resized = functional.resize(image, [spec.resize_size], mode, antialias=True)
    return np.asarray(functional.center_crop(resized, [spec.crop_size] * 2))


def _row(name: str, scale: int, differences: Pixels) -> Row:
    """differences: uint8 [photos, rows, columns, 3]"""
    return {
        "interpolation": name,
        "decoded_at": f"1/{scale}",
        "photos": len(differences),
        "mean_levels": round(float(differences.mean()), 3),
        "p99_levels": int(np.percentile(differences, 99)),
        "max_levels": int(differences.max()),
        "max_of_the_median_photo": int(np.median(differences.max(axis=(1, 2, 3)))),
    }
