"""What this machine can do without HTTP: pictures through decode and engine, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from benchmark.server_process import ROOT
from models.machine.resources import usable_cores

PICTURE = ROOT / "images" / "astronaut-portrait.jpg"
BATCH_SIZES = (1, 4, 8, 16, 32)
_TUNING_S = 1.5


@dataclass(frozen=True)
class Setting:
    """How the cores are used.

    Attributes:
        processes: each with an engine and a decode pool of its own.
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
    """Processes that push pictures through decode and engine; a context manager that ends them.

    With several of them, or with servers beside them, measure in turns: between rounds they do nothing.

    Attributes:
        setting: processes and threads.
        batch_size: most pictures in a batch; `tune` finds the best.
    """

    def __init__(
        self,
        model: Path,
        engine: str = "",
        setting: Setting | None = None,
        pictures: Sequence[Path] = (PICTURE,),
        batch_size: int = max(BATCH_SIZES),
    ) -> None:
        """Starts nothing yet.

        Args:
            model: bundle.
            engine: of the bundle; "": its own.
            setting: None: one process per core.
            pictures: files that take turns.
            batch_size: most pictures in a batch, and of what `tune` tries.
        """
        self.model, self.engine = model, engine
        self.setting = setting or usual_settings(usable_cores())[0]
        self.pictures = pictures
        self.batch_size = self._largest = batch_size
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Limit:
        setting = self.setting
        words = [sys.executable, "-m", "benchmark.pipeline", "--model", str(self.model), "--engine", self.engine]
        words += ["--intra-op-threads", str(setting.threads), "--decode-threads", str(setting.decode_threads)]
        words += ["--max-batch-size", str(self._largest)]
        words += [word for picture in self.pictures for word in ("--picture", str(picture))]
        environment = {**os.environ, "OMP_NUM_THREADS": str(setting.threads)}
        for _ in range(setting.processes):
            self._processes.append(
                subprocess.Popen(
                    words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
                )
            )
        try:
            for process in self._processes:
                if _pipe(process.stdout).readline() != "ready\n":
                    raise RuntimeError(f"{self.model}: decode and engine did not start; the reason is on stderr")
        except BaseException:
            self._end()
            raise
        return self

    def measure(self, seconds: float) -> float:
        """Images per second of all processes together, in a round of that many seconds.

        Raises:
            RuntimeError: a process has ended.
        """
        for process in self._processes:
            _pipe(process.stdin).write(f"{seconds} {self.batch_size}\n")
            _pipe(process.stdin).flush()
        lines = [_pipe(process.stdout).readline() for process in self._processes]
        if not all(lines):
            raise RuntimeError(f"{self.model}: a process of the limit has ended; the reason is on stderr")
        return sum(float(line) for line in lines)

    def tune(self, sizes: Sequence[int] = BATCH_SIZES, seconds: float = _TUNING_S) -> dict[int, float]:
        """Tries batch sizes and keeps the best. Returns size -> images per second."""
        found: dict[int, float] = {}
        for size in sizes:
            if size <= self._largest:
                self.batch_size = size
                found[size] = round(self.measure(seconds), 1)
        self.batch_size = max(found, key=lambda size: found[size])
        return found

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()
        self._processes.clear()


def _pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream
