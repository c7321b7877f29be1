"""What a process of SnapServe sets once for all its threads."""

from __future__ import annotations

import logging
import os

from models.machine.allocator import keep_freed_memory


def prepare_process() -> None:
    """Sets environment, allocator and Pillow's limits; called once at the start, before torch is imported.

    Importing `models` sets none of these, so a program that uses it keeps its own.
    """
    # Idle OpenMP threads sleep instead of spin: they would spin on the cores that decode, or on those of another
    # worker (docs/performance.md). Engines are timed as they are served.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # torch's warnings from C++ are for those that write programs with it.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    keep_freed_memory()
    _prepare_pillow()


def _prepare_pillow() -> None:
    from PIL import Image

    # The pixel limit is SnapServe's own, checked against the header; Pillow would warn first.
    Image.MAX_IMAGE_PIXELS = None
    # At level debug it would log parts of the files.
    logging.getLogger("PIL").setLevel(logging.WARNING)
