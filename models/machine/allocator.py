"""How the C library's allocator treats memory that was freed."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# Names and meanings: mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT = 256 << 20  # bytes at the end of a heap before they are given back
_LARGEST_ON_HEAP = 32 << 20  # bytes; glibc takes no more
_LARGEST_WHILE_LOADING = 1 << 20  # bytes; larger are the weights that matter


def keep_freed_memory() -> None:
    """Lets the process keep the memory of one batch for the next, on Linux with glibc.

    Otherwise each batch's tensors are given back to the kernel, and every page of them faults in the next: with
    int8 ResNet18 in batches of 8, 400 faults and 1.1 ms of the kernel's time per image (docs/performance.md).
    Does nothing if any MALLOC_* variable is set.
    """
    _set(_MMAP_THRESHOLD, _LARGEST_ON_HEAP)
    _set(_TRIM_THRESHOLD, _KEPT)


@contextmanager
def weights_apart() -> Iterator[None]:
    """Lets large blocks that are allocated meanwhile, on any thread, go back to the kernel when they are freed.

    On the heap of a thread they would stay: glibc's malloc_trim leaves the end of every heap but the main one.
    The process must have called `keep_freed_memory`.
    """
    _set(_MMAP_THRESHOLD, _LARGEST_WHILE_LOADING)
    try:
        yield
    finally:
        _set(_MMAP_THRESHOLD, _LARGEST_ON_HEAP)


def _set(parameter: int, value: int) -> None:
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    if mallopt is not None:
        mallopt(parameter, value)


def give_back_memory() -> None:
    """Gives all free pages of the C library's heaps back to the kernel, on Linux with glibc: some milliseconds.

    `keep_freed_memory` would keep up to a quarter of a gigabyte of a big image for each thread.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
