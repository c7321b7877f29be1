"""The bound of this machine, images through decode and engine without HTTP: `python -m benchmark limit`."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import Row, add_option, add_parser, numbers, print_table, write_result
from benchmark.harness.server import Helper
from models.machine.resources import usable_cores

BATCH_SIZES = (1, 4, 8, 16, 32)
_TUNING_S = 1.5


@dataclass(frozen=True)
class Setting:
    """How the cores are used.

    Attributes:
        processes: each with an engine and a CPU pool of its own.
        threads: of each engine's operators.
        decode_threads: of each process.
    """

    processes: int
    threads: int
    decode_threads: int

    def __str__(self) -> str:
        return f"{self.processes} x {self.threads}"


def usual_settings(cores: int) -> list[Setting]:
    """A process per core, and one process with all of them."""
    return list(dict.fromkeys((Setting(cores, 1, 1), Setting(1, cores, cores))))


class Limit:
    """Processes that push images through decode and engine; a context manager that ends them.

    With several of them, or with servers beside them, measure in turns: between rounds they do nothing.

    Attributes:
        setting: processes and threads.
        batch_size: most images in a batch; `tune` finds the best.
        processes: while the context lasts.
    """

    def __init__(
        self,
        model: Path,
        engine: str = "",
        setting: Setting | None = None,
        images: Sequence[Path] = (PORTRAIT,),
        batch_size: int = max(BATCH_SIZES),
    ) -> None:
        """Starts nothing yet.

        Args:
            model: bundle.
            engine: of the bundle; "": its own.
            setting: None: one process per core.
            images: files that take turns.
            batch_size: most images in a batch, and of what `tune` tries.
        """
        self.model, self.engine = model, engine
        self.setting = setting or usual_settings(usable_cores())[0]
        self.images = images
        self.batch_size = self._largest = batch_size
        self._stack = ExitStack()
        self.processes: list[Helper] = []

    def __enter__(self) -> Limit:
        setting = self.setting
        words = ["--model", str(self.model), "--engine", self.engine, "--max-batch-size", str(self._largest)]
        words += ["--intra-op-threads", str(setting.threads), "--decode-threads", str(setting.decode_threads)]
        words += [word for image in self.images for word in ("--image", str(image))]
        variables = {"OMP_NUM_THREADS": str(setting.threads)}
        with ExitStack() as stack:
            for _ in range(setting.processes):
                helper = Helper("benchmark.pipeline.process", *words, variables=variables)
                self.processes.append(stack.enter_context(helper))
            for each in self.processes:
                each.line()  # it is ready
            self._stack = stack.pop_all()
        return self

    def measure(self, seconds: float) -> float:
        """Images per second of all processes together, in a round of that many seconds.

        Raises:
            RuntimeError: a process has ended.
        """
        for each in self.processes:
            each.send(f"{seconds} {self.batch_size}\n".encode())
        return sum(float(each.line()) for each in self.processes)

    def tune(self, sizes: Sequence[int] = BATCH_SIZES, seconds: float = _TUNING_S) -> dict[int, float]:
        """Tries batch sizes and keeps the best. Returns size -> images per second."""
        found: dict[int, float] = {}
        for size in sizes:
            if size <= self._largest:
                self.batch_size = size
                found[size] = round(self.measure(seconds), 1)
        self.batch_size = max(found, key=lambda size: found[size])
        return found

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def start_limits(stack: ExitStack, bundle: Path, images: Sequence[Path]) -> dict[str, Limit]:
    """The bundle's own engine without HTTP, with its best batch size, by setting: all that are usual."""
    usual = usual_settings(usable_cores())
    limits = [stack.enter_context(Limit(bundle, setting=each, images=images)) for each in usual]
    for limit in limits:
        limit.tune()
    return {f"limit {limit.setting}": limit for limit in limits}


def best_limit(limits: Mapping[str, Limit], rounds: Mapping[str, Sequence[float]]) -> Row | None:
    """The setting whose median is highest; None without any."""
    if not limits:
        return None
    name = max(limits, key=lambda each: median(rounds[each]))
    rates = [round(rate, 2) for rate in rounds[name]]
    limit = limits[name]
    return {"setting": str(limit.setting), "batch_size": limit.batch_size, "images_per_s_rounds": rates}


def add_command(commands: Any) -> None:
    """Adds `limit` to the command line."""
    parser = add_parser(commands, "limit", __doc__, run)
    parser.add_argument("--model", type=Path, required=True, help="bundle")
    parser.add_argument("--engine", default="", help="of the bundle; default: its own")
    parser.add_argument("--image", type=Path, action="append", help="may be repeated; default: one of 64 KB")
    parser.add_argument("--setting", type=_setting, action="append", metavar="PROCESSESxTHREADS[xDECODE]")
    parser.add_argument("--batch-sizes", type=numbers, default=BATCH_SIZES, help="tried; default: 1,4,8,16,32")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 4.0, "of each round")


def _setting(text: str) -> Setting:
    processes, threads, *decode = (int(word) for word in text.split("x"))
    return Setting(processes, threads, *(decode or [threads]))


def run(options: argparse.Namespace) -> int:
    """Measures the settings in turns, prints them, writes the JSON; the best one is the limit."""
    chosen = options.setting or usual_settings(usable_cores())
    images, sizes = options.image or (PORTRAIT,), options.batch_sizes
    with ExitStack() as stack:
        limits = [
            stack.enter_context(Limit(options.model, options.engine, each, images, max(sizes))) for each in chosen
        ]
        tried = [limit.tune(sizes) for limit in limits]
        rounds = [[limit.measure(options.seconds) for limit in limits] for _ in range(options.rounds)]
    rows: list[Row] = [
        {
            **dataclasses.asdict(limit.setting),
            "batch_size": limit.batch_size,
            "images_per_s": round(median(rates), 1),
            "images_per_s_rounds": [round(rate, 1) for rate in rates],
            "images_per_s_by_batch_size": found,
        }
        for limit, found, rates in zip(limits, tried, zip(*rounds, strict=True), strict=True)
    ]
    print_table("decode and engine without HTTP", [_shown(row) for row in rows])
    best = max(row["images_per_s"] for row in rows)
    print(f"the limit of this machine: {best:.1f} images/s")
    write_result("limit", options, rows=rows, limit_per_s=best)
    return 0


def _shown(row: Row) -> Row:
    by_round = " ".join(f"{rate:.0f}" for rate in row["images_per_s_rounds"])
    by_size = " ".join(f"{size}:{rate:.0f}" for size, rate in row["images_per_s_by_batch_size"].items())
    return {**row, "images_per_s_rounds": by_round, "images_per_s_by_batch_size": by_size}
