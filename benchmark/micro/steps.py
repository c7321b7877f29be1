"""What each step from a JPEG to the model's pixels costs, and the ways not taken: `python -m benchmark micro`."""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import PIL
import torch
from PIL import Image
from torch.nn.functional import interpolate
from torchvision import io as torchvision_io
from torchvision.transforms import functional
from torchvision.transforms._presets import ImageClassification

from benchmark.harness.photos import PORTRAIT, twelve_megapixels
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from models.bundles.spec import IMAGENET
from models.images.geometry import Region, crop_spans
from models.images.jpeg import decode_jpeg, decoder
from models.images.jpeg_file import read_jpeg
from models.images.preprocess import Preprocessor
from models.images.resize import reads, resize_crop

try:
    import simplejpeg  # type: ignore[import-untyped,import-not-found,unused-ignore]
except ImportError:
    simplejpeg = None

Steps = dict[str, Callable[[], Any]]

WHOLE = "Preprocessor: everything"
UNSCALED = "Preprocessor: everything, --no-scaled-decode"
PRESET = "torchvision's preset on a PIL image: everything"
FULL = "Pillow: full decode and resize"
_PARTS = (1, 2, 4, 8)  # of a JPEG's size


def add_command(commands: Any) -> None:
    """Adds `micro` to the command line."""
    parser = add_parser(commands, "micro", __doc__, run)
    add_option(parser, "rounds", 60, "on 64 KB; a fifth on 12 MP")


def run(options: argparse.Namespace) -> int:
    """Measures, prints a table for each image, writes the JSON."""
    torch.set_num_threads(1)
    small = _measure(PORTRAIT.read_bytes(), options.rounds)
    big = _measure(twelve_megapixels(), max(3, options.rounds // 5))
    for title, result in ((f"{PORTRAIT.name}, 64 KB", small), ("4000 x 3000", big)):
        _print(f"{title}, ms, one thread, Pillow {PIL.__version__}", result)
    write_result("micro", options, pillow=PIL.__version__, **{"64 KB": small, "12 MP": big})
    return 0


def _measure(data: bytes, rounds: int) -> Row:
    chosen = steps(data)
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for _ in range(rounds + 1):  # interleaved; the first round warms up
        for name, step in chosen.items():
            times[name].append(_milliseconds(step))
    medians = {name: round(median(each[1:]), 3) for name, each in times.items()}
    spread = {name: [round(min(each[1:]), 3), round(max(each[1:]), 3)] for name, each in times.items()}
    return {
        "bytes": len(data),
        "rounds": rounds,
        "median_ms": medians,
        "least_and_most_ms": spread,
        "faster_than_preset": round(medians[PRESET] / medians[WHOLE], 2),
        "share_of_full": round(medians[WHOLE] / medians[FULL], 3),
        "share_of_unscaled": round(medians[WHOLE] / medians[UNSCALED], 3),
    }


def _milliseconds(step: Callable[[], object]) -> float:
    step()  # not timed: leaves the caches and the allocator as they are in a service that does only this
    started = time.perf_counter()
    step()
    return (time.perf_counter() - started) * 1000


def _print(title: str, result: Row) -> None:
    spread = result["least_and_most_ms"]
    rows = [
        {"step": name, "median": value, "least": spread[name][0], "most": spread[name][1]}
        for name, value in result["median_ms"].items()
    ]
    print_table(title, rows)
    full, unscaled = result["share_of_full"], result["share_of_unscaled"]
    shares = f"{full} of a full decode and resize, {unscaled} of --no-scaled-decode"
    print(f"{result['faster_than_preset']} x as fast as the preset; {shares}")


def steps(data: bytes) -> Steps:
    """What is timed for a JPEG, by name."""
    opened = _open(data)
    opened.load()
    scaled, unscaled = Preprocessor(IMAGENET), Preprocessor(IMAGENET, scaled_decode=False)
    tensor = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    preset = ImageClassification(crop_size=IMAGENET.crop_size, resize_size=IMAGENET.resize_size)
    return {
        "Pillow: open, header": lambda: _open(data),
        **{f"Pillow: decode 1/{part}": partial(_drafted, data, part) for part in _PARTS},
        **(_by_simplejpeg(data, *opened.size) if simplejpeg else {}),
        **(_by_region(data, opened) if decoder() == "jpeg_region" else {}),
        "torchvision: decode": lambda: torchvision_io.decode_jpeg(tensor, torchvision_io.ImageReadMode.RGB),
        "Pillow to numpy": lambda: np.asarray(opened),
        **_resizes(opened),
        FULL: lambda: functional.resize(_drafted(data, 1), [IMAGENET.resize_size]),
        WHOLE: lambda: scaled(data),
        UNSCALED: lambda: unscaled(data),
        PRESET: lambda: preset(_open(data)),
    }


def _open(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data), formats=("JPEG",))


def _drafted(data: bytes, part: int) -> Image.Image:
    image = _open(data)
    if part > 1:
        image.draft(None, (image.width // part, image.height // part))
    image.load()
    return image


def _by_simplejpeg(data: bytes, width: int, height: int) -> Steps:
    return {
        f"simplejpeg: decode 1/{part}": partial(
            simplejpeg.decode_jpeg,
            data,
            min_height=-(-height // part),
            min_width=-(-width // part),
            min_factor=float(part),
        )
        for part in _PARTS
    }


def _by_region(data: bytes, opened: Image.Image) -> Steps:
    region = Region(1, *reads(*crop_spans(*opened.size, IMAGENET), IMAGENET.interpolation))
    file = read_jpeg(data)
    return {"jpeg_region: decode what the crop needs": lambda: decode_jpeg(file, data, region)}


def _resizes(opened: Image.Image) -> Steps:
    pixels = np.array(opened)
    across, down = crop_spans(opened.width, opened.height, IMAGENET)
    (left, right), (top, bottom) = across.ends(), down.ends()
    boxed = partial(opened.resize, (across.kept, down.kept), Image.Resampling.BILINEAR, (left, top, right, bottom))
    batch = torch.from_numpy(pixels)[None].permute(0, 3, 1, 2)
    size = [down.resized, across.resized]
    return {
        "Pillow: resize": lambda: functional.resize(opened, [IMAGENET.resize_size]),
        "Pillow: resize of the crop (box)": boxed,
        "Pillow: resize of the crop, reducing_gap=2": partial(boxed, reducing_gap=2.0),
        "torch uint8: resize": partial(interpolate, batch, size, mode="bilinear", antialias=True),
        "torch uint8: resize of the crop, in two passes": lambda: resize_crop(pixels, across, down, "bilinear"),
    }
