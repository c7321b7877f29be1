"""A model in pure Python, and threads that call it: `python -m benchmark.micro.arithmetic STEPS THREADS SECONDS`.

It imports nothing that has to be installed, so that any Python can be measured.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable


def steps(value: int, count: int) -> int:
    """So many steps of a linear congruential generator (that of ISO C's example of rand)."""
    for _ in range(count):
        value = (value * 1103515245 + 12345) % 2147483648
    return value


class Arithmetic:
    """The model: one argument, a whole number."""

    def __init__(self, count: int) -> None:
        """Creates it with a number of steps per request."""
        self.count = count

    def __call__(self, value: int) -> int:
        return steps(value, self.count)


def closed_loop(call: Callable[[int], object], threads: int, seconds: float) -> float:
    """Requests per second of so many threads that each wait for their answer."""
    counts = [0] * threads
    start = threading.Barrier(threads + 1)
    end = threading.Event()

    def loop(number: int) -> None:
        start.wait()
        while not end.is_set():
            call(counts[number])
            counts[number] += 1

    running = [threading.Thread(target=loop, args=(number,)) for number in range(threads)]
    for each in running:
        each.start()
    start.wait()
    began = time.perf_counter()
    time.sleep(seconds)
    end.set()
    for each in running:
        each.join()
    return sum(counts) / (time.perf_counter() - began)


if __name__ == "__main__":
    print(closed_loop(Arithmetic(int(sys.argv[1])), int(sys.argv[2]), float(sys.argv[3])))
