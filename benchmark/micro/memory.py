"""The growth of memory over 100,000 images, many of them malformed: `python -m benchmark memory`."""

from __future__ import annotations

import argparse
import os
import struct
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from benchmark.harness.photos import PHOTOS, encode, photo
from benchmark.harness.results import add_option, add_parser, write_result
from models.bundles.spec import IMAGENET
from models.errors import ImageError
from models.images.preprocess import Preprocessor

ALLOWED_MB = 5.0


def add_command(commands: Any) -> None:
    """Adds `memory` to the command line."""
    parser = add_parser(commands, "memory", __doc__, run)
    add_option(parser, "pictures", 100_000, "that are decoded")
    add_option(parser, "every", 10_000, "images from one reading to the next")
    add_option(parser, "threads", os.cpu_count() or 1, "one for each core")


def run(options: argparse.Namespace) -> int:
    """Decodes, prints the resident memory as it goes, and fails if it grew too much after the first reading."""
    torch.set_num_threads(1)
    readings, outcomes = measure(options.pictures, options.every, options.threads, progress=True)
    growth = round(max(readings) - readings[0], 2)
    print(f"grew by {growth} MB after the first {options.every:,} images; less than {ALLOWED_MB} is allowed")
    measured = {"threads": options.threads, "pictures": options.pictures, "every": options.every}
    measured |= {"outcomes": outcomes, "resident_mb": readings, "growth_mb": growth}
    write_result("memory", options, pillow=PIL.__version__, **measured)
    return int(growth >= ALLOWED_MB)


def measure(count: int, every: int, threads: int, progress: bool = False) -> tuple[list[float], dict[str, int]]:
    """Decodes `count` images on a pool; returns the resident MB after each `every` of them, and the outcomes."""
    whole, files = Preprocessor(IMAGENET), cycle(mixture())

    def outcome(data: bytes) -> str:
        try:
            whole(data)
        except ImageError as error:
            return type(error).__name__
        return "decoded"

    readings, outcomes = [], Counter[str]()
    with ThreadPoolExecutor(threads) as pool:
        for done in range(every, count + 1, every):
            outcomes.update(pool.map(outcome, list(islice(files, every))))
            readings.append(resident_mb())
            if progress:
                print(f"{done:9,} images: {readings[-1]:8.1f} MB resident", flush=True)
    return readings, dict(outcomes)


def resident_mb() -> float:
    """What this process holds in memory, in MB of 1,000,000 bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2)


def mixture(seed: int = 0) -> list[bytes]:
    """Files as a server meets them: small and middling, of every format and mode, and 3 in 7 malformed."""
    generator = np.random.default_rng(seed)
    sound = [file for path in PHOTOS for file in _variants(path)]
    broken = [_damaged(file, generator) for file in sound]
    cut = [file[: int(len(file) * generator.uniform(0.1, 0.98))] for file in sound[::2]]
    return [*sound, *sound, *broken, *cut, *_impostors()]


def _variants(path: Path) -> list[bytes]:
    files = []
    for size in ((48, 32), (200, 320), (640, 427)):
        image = photo(path, size)
        files += [encode(image, kind) for kind in ("JPEG", "PNG", "WEBP")]
        files += [encode(image, progressive=True), encode(image.convert("L")), encode(image.convert("CMYK"))]
        files += [encode(image.convert("RGBA"), "PNG"), encode(image.quantize(64), "PNG")]
    return [*files, encode(photo(path, (1600, 1200)))]


def _damaged(file: bytes, generator: np.random.Generator) -> bytes:
    """Some bits flipped, anywhere but in the first bytes, which tell the format."""
    data = bytearray(file)
    for place in generator.integers(16, len(data), 8):
        data[place] ^= 1 << int(generator.integers(8))
    return bytes(data)


def _impostors() -> list[bytes]:
    """Wrong magic bytes, empty files, and a header that promises 2,500 megapixels."""
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    bomb = b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 1000) + b"IDAT"
    return [
        bomb,
        b"GIF89a" + bytes(100),
        b"",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff" + bytes(5000),
        b"RIFF____WEBP" + bytes(99),
    ]
