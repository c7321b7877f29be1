"""How long an engine takes, batch size by batch size."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median

import numpy as np

from models.engines.base import Engine

BATCH_SIZES = (1, 2, 4, 8, 16, 32)

_LEAST_ROUNDS = 3

Clock = Callable[[], float]


def measure_latency(
    engine: Engine,
    crop_size: int,
    sizes: Sequence[int] = BATCH_SIZES,
    rounds: int = 7,
    budget_s: float = 60.0,
    clock: Clock = time.perf_counter,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Times `engine.infer`, copies included.

    Every round times every size once, so that a disturbance of the machine hits all of them alike. One round
    before them is dropped: TorchScript and cuDNN settle per batch size.

    Args:
        engine: loaded; it is warmed up here.
        crop_size: side of the pictures in pixels.
        sizes: batch sizes.
        rounds: measurements per size.
        budget_s: seconds after which three rounds are enough; for large networks on small machines.
        clock: seconds.
        on_round: called after each round, for a progress bar.

    Returns:
        Batch size -> median milliseconds of one call.
    """
    pixels = np.random.default_rng(0).integers(0, 256, (max(sizes), crop_size, crop_size, 3), np.uint8)
    engine.warm_up()
    begin = clock()
    measured: dict[int, list[float]] = {size: [] for size in sizes}
    for number in range(rounds + 1):
        for size in sizes:
            start = clock()
            engine.infer(pixels[:size])
            if number > 0:
                measured[size].append((clock() - start) * 1000)
        on_round()
        if number >= _LEAST_ROUNDS and clock() - begin > budget_s:
            break
    return {str(size): round(median(times), 3) for size, times in measured.items()}


def images_per_second(latency_ms: dict[str, float]) -> float:
    """The throughput at the batch size where it is highest."""
    return max(int(size) * 1000 / ms for size, ms in latency_ms.items())
