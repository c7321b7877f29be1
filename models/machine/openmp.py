"""How OpenMP's threads, on which torch computes, spend the time between two computations."""

from __future__ import annotations

import os


def sleep_when_idle() -> None:
    """Lets idle threads sleep instead of spin, here and in child processes; called before torch is imported.

    They would spin on the cores that decode, or on those of another worker: docs/performance.md. Engines are timed
    as they are served. A policy that the user has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
