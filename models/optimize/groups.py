"""Which candidates are in memory at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

Each = TypeVar("Each")

# A process with torch and its compiler, and what graphs for three settings take per byte of the weights: ResNet18
# took 1.0 to 1.5 GB (docs/engines.md).
_PROCESS = 1_000_000_000
_PER_WEIGHT = 12
_SHARE = 0.75  # of the memory; the rest is for this process and all others


def at_once(weights: int, memory: int | None) -> int | None:
    """How many candidates fit; at least one. None where the memory is unknown.

    Args:
        weights: bytes of the fp32 weights.
        memory: bytes that there are.
    """
    return None if memory is None else max(1, int(_SHARE * memory / (_PROCESS + _PER_WEIGHT * weights)))


def groups(candidates: Sequence[Each], most: int | None) -> list[Sequence[Each]]:
    """Cuts `candidates` into groups of at most `most`, about equal, in order; one group without a limit."""
    count = -(-len(candidates) // (most or len(candidates)))
    borders = [len(candidates) * number // count for number in range(count + 1)]
    return [candidates[start:end] for start, end in pairwise(borders)]
