"""Processes that make one load together: each takes a plan from its standard input and answers with a tally."""

from __future__ import annotations

import contextlib
import gc
import pickle
import resource
import subprocess
import sys
import time
from typing import IO

import uvloop

from benchmark.harness.server import ROOT
from benchmark.load.generator import generate
from benchmark.load.plan import Plan
from benchmark.load.tally import Tally

_HEAD_START_S = 0.1  # for the start time to reach all processes


def run_plan(plan: Plan, processes: int = 1) -> Tally:
    """Runs a plan in processes of their own, which begin together, and adds up what they count.

    Raises:
        RuntimeError: a process failed; its traceback is on stderr.
    """
    # Not multiprocessing: its children would import the program that measures, and torch with it.
    words = [sys.executable, "-m", "benchmark.load.crew"]
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


def main() -> None:
    """One process of the crew."""
    plan: Plan = pickle.load(sys.stdin.buffer)
    _allow_connections(plan.connections)
    gc.collect()
    gc.freeze()  # a collection of everything would make requests late
    sys.stdout.buffer.write(b"ready\n")
    sys.stdout.buffer.flush()
    start_s = float(sys.stdin.buffer.readline())
    began = time.process_time()
    tally = uvloop.run(generate(plan, start_s))
    tally.cpu_s = time.process_time() - began
    pickle.dump(tally, sys.stdout.buffer)


def _allow_connections(count: int) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 64
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


if __name__ == "__main__":
    main()
