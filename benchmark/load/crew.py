"""Processes that make one load together: each takes a plan from its standard input and answers with a tally."""

from __future__ import annotations

import contextlib
import gc
import pickle
import resource
import sys
import time
from contextlib import ExitStack

import uvloop

from benchmark.harness.server import Helper
from benchmark.load.generator import generate
from benchmark.load.plan import Plan
from benchmark.load.tally import Tally

_HEAD_START_S = 0.1  # for the start time to reach all processes


def run_plan(plan: Plan, processes: int = 1) -> Tally:
    """Runs a plan in processes of their own, which begin together, and adds up what they count.

    Raises:
        RuntimeError: a process failed; its traceback is on stderr.
    """
    with ExitStack() as stack:
        crew = [stack.enter_context(Helper("benchmark.load.crew")) for _ in range(processes)]
        for number, each in enumerate(crew):
            each.send(pickle.dumps(plan.share(number, processes)))
        for each in crew:
            each.line()  # it is ready
        start_s = time.monotonic() + _HEAD_START_S
        for each in crew:
            each.send(f"{start_s!r}\n".encode())
        total = Tally()
        for each in crew:
            total.add(_tally(each))
        return total


def _tally(helper: Helper) -> Tally:
    try:
        tally: Tally = pickle.load(helper.output)
    except EOFError:
        raise RuntimeError("a process of the load generator failed; its traceback is on stderr") from None
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
