"""Several processes that make one load."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from typing import IO

from benchmark.load.plan import Plan
from benchmark.load.tally import Tally
from benchmark.server_process import ROOT

_HEAD_START_S = 0.1  # for the start time to reach all processes


def run_plan(plan: Plan, processes: int = 1) -> Tally:
    """Runs a plan in processes of their own, which begin together, and adds up what they count.

    Raises:
        RuntimeError: a process failed; its traceback is on stderr.
    """
    # Not multiprocessing: its children would import this program, and torch with it.
    words = [sys.executable, "-m", "benchmark.load.worker"]
    crew = [
        subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(processes)
    ]
    try:
        for number, process in enumerate(crew):
            _give(process, pickle.dumps(plan.share(number, processes)))
        for process in crew:
            if _stdout(process).readline() != b"ready\n":
                raise RuntimeError("a process of the load generator failed")
        start_s = time.monotonic() + _HEAD_START_S
        for process in crew:
            _give(process, f"{start_s!r}\n".encode())
        total = Tally()
        for process in crew:
            total.add(_tally(process))
        return total
    finally:
        for process in crew:
            process.kill()
            process.communicate()


def _give(process: subprocess.Popen[bytes], data: bytes) -> None:
    assert process.stdin is not None
    process.stdin.write(data)
    process.stdin.flush()


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _tally(process: subprocess.Popen[bytes]) -> Tally:
    try:
        tally: Tally = pickle.load(_stdout(process))
    except EOFError:
        raise RuntimeError("a process of the load generator failed") from None
    return tally
