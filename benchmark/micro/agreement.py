"""How near scaled decoding comes to the whole picture, by margin: `python -m benchmark agreement`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch
from rich.console import Console
from rich.table import Table

from benchmark.machine import describe_machine
from benchmark.micro import photo_levels
from benchmark.micro.pictures import PHOTOS, encode, photo
from benchmark.server_process import ROOT
from examples.digits.digits import Look, load_samples, picture
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

Row = dict[str, Any]


def add_command(commands: Any) -> None:
    """Adds `agreement` to the command line."""
    parser = commands.add_parser("agreement", help=__doc__)
    parser.add_argument("--digits", type=int, default=364, help="held-out digits; default: all")
    parser.add_argument("--photos", type=Path, help="folder of JPEGs: only their levels, against torchvision's")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, *_SCALES], help="of photos: 1, 2, 4, 8")
    parser.add_argument("--count", type=int, help="how many of the photos; default: all")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measures the worst case of each margin: pictures that have only just enough pixels for their scale."""
    torch.set_num_threads(1)
    if options.photos:
        return _run_photos(options)
    bundle = ModelBundle.load(ROOT / "models" / "demo")
    rows = [{"margin": margin, **levels(margin), **digits(bundle, margin, options.digits)} for margin in _MARGINS]
    _print(rows, "scaled decoding against the whole picture, by margin; worst case of each")
    _write(options.output, "agreement", rows)
    return 0


def _run_photos(options: argparse.Namespace) -> int:
    files = sorted(file for file in options.photos.rglob("*") if file.suffix.lower() in (".jpg", ".jpeg"))
    rows = [row for scale in options.scales for row in photo_levels.compare(files[: options.count], scale)]
    _print(rows, "photos, as they are and enlarged, against torchvision's pixels")
    _write(options.output, "photo-levels", rows)
    return 0


def _write(output: Path | None, benchmark: str, rows: list[Row]) -> None:
    if output:
        result: Row = {"benchmark": benchmark, "machine": describe_machine(), "pillow": PIL.__version__}
        result |= {"margin": MARGIN, "rows": rows}
        output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def both(data: bytes, spec: PreprocessSpec, margin: float) -> tuple[Pixels, Pixels]:
    """The picture scaled while it is decoded, and whole."""
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
    """The demo's answers to big pictures of digits that it was not trained on."""
    engine = load_engine(bundle, EngineOptions(device="cpu", max_batch_size=_BATCH))
    scores, right = [], []
    pictures = islice(_digits(bundle.spec.preprocess.resize_size, margin), count)
    while batch := list(islice(pictures, _BATCH)):
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
        yield encode(picture(ink, look).convert("RGB"), quality=90), int(label)


def _print(rows: list[Row], title: str) -> None:
    table = Table(title=title)
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="right")
    for row in rows:
        table.add_row(*(str(value) for value in row.values()))
    Console(width=160).print(table)
