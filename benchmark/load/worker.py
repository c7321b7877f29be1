"""The process that `benchmark/load/crew.py` starts: a plan comes in, a tally goes out."""

from __future__ import annotations

import contextlib
import gc
import pickle
import resource
import sys
import time

import uvloop

from benchmark.load.generator import generate
from benchmark.load.plan import Plan


def main() -> None:
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
