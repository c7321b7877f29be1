"""Whether memory grows over 100,000 pictures, many of them malformed: `python -m benchmark memory`."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import PIL
import torch

from benchmark.machine import describe_machine
from benchmark.micro.pictures import mixture
from models.bundles.spec import IMAGENET
from models.errors import PictureError
from models.images.preprocess import Preprocessor

ALLOWED_MB = 5.0


def add_command(commands: Any) -> None:
    """Adds `memory` to the command line."""
    parser = commands.add_parser("memory", help=__doc__)
    parser.add_argument("--pictures", type=int, default=100_000, help="default: %(default)s")
    parser.add_argument("--every", type=int, default=10_000, help="pictures from one reading to the next")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="default: one for each core")
    parser.add_argument("--output", type=Path, help="JSON file, with the machine's description")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Decodes, prints the resident memory as it goes, and fails if it grew too much after the first reading."""
    torch.set_num_threads(1)
    readings, outcomes = measure(options.pictures, options.every, options.threads, progress=True)
    growth = round(max(readings) - readings[0], 2)
    print(f"grew by {growth} MB after the first {options.every:,} pictures; less than {ALLOWED_MB} is allowed")
    if options.output:
        result = {
            "benchmark": "memory",
            "machine": describe_machine(),
            "pillow": PIL.__version__,
            "threads": options.threads,
            "pictures": options.pictures,
            "every": options.every,
            "outcomes": outcomes,
            "resident_mb": readings,
            "growth_mb": growth,
        }
        options.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return int(growth >= ALLOWED_MB)


def measure(count: int, every: int, threads: int, progress: bool = False) -> tuple[list[float], dict[str, int]]:
    """Decodes `count` pictures on a pool; returns the resident MB after each `every` of them, and the outcomes."""
    whole, files = Preprocessor(IMAGENET), cycle(mixture())

    def outcome(data: bytes) -> str:
        try:
            whole(data)
        except PictureError as error:
            return type(error).__name__
        return "decoded"

    readings, outcomes = [], Counter[str]()
    with ThreadPoolExecutor(threads) as pool:
        for done in range(every, count + 1, every):
            outcomes.update(pool.map(outcome, list(islice(files, every))))
            readings.append(resident_mb())
            if progress:
                print(f"{done:9,} pictures: {readings[-1]:8.1f} MB resident", flush=True)
    return readings, dict(outcomes)


def resident_mb() -> float:
    """What this process holds in memory, in MB of 1,000,000 bytes (Linux)."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return round(pages * os.sysconf("SC_PAGE_SIZE") / 1e6, 2)
