"""Memory that was freed stays with the process."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from models.machine.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    keep_freed_memory()
def batch():
    for block in [np.ones(9_000_000, np.uint8) for _ in range(4)]:
        del block
for _ in range(5):
    batch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    batch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(word, **variables):
    """Page faults of ten times four blocks of 9 MB, which are 2,200 pages each."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", CODE, word]
    done = subprocess.run(words, env={**environment, **variables}, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_a_batch_uses_the_memory_of_the_one_before():
    assert faults("keep") < 1000
    assert faults("as usual") > 10_000
    assert faults("keep", MALLOC_TRIM_THRESHOLD_="131072") > 10_000, "what is set by hand stays"


LOAD = """
import contextlib, sys, threading
import numpy as np
from models.machine.allocator import give_back_memory, keep_freed_memory, weights_apart
from runtime.memory import resident_bytes
keep_freed_memory()
steps = threading.Barrier(2)
def engine():
    with weights_apart() if sys.argv[1] == "apart" else contextlib.nullcontext():
        weights = np.ones(20_000_000, np.uint8)
    del weights
    steps.wait()  # freed
    steps.wait()  # measured: a thread that ended would leave its heap to the next one
before = resident_bytes()
threading.Thread(target=engine).start()
steps.wait()
give_back_memory()
print(resident_bytes() - before)
steps.wait()
"""


def kept(word):
    """Bytes that are left of 20 MB which a thread has freed, and given back."""
    done = subprocess.run(
        [sys.executable, "-c", LOAD, word], capture_output=True, text=True, check=True, timeout=60
    )
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux")
def test_weights_of_a_thread_go_back_to_the_kernel():
    assert kept("apart") < 5_000_000
    assert kept("on the heap") > 15_000_000
