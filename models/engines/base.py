"""The engine contract: five names that every backend has."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from models.bundles.spec import EngineSpec
from models.engines.buckets import buckets_up_to
from models.images.preprocess import Pixels

Probabilities = NDArray[np.float32]
Batch = Sequence[Pixels] | Pixels


class Engine(Protocol):
    """Runs batches, one at a time, always on the same thread.

    Attributes:
        spec: what runs, as it was resolved on this machine (device and precision are final).
        num_classes: length of an answer's row.
    """

    spec: EngineSpec
    num_classes: int

    def infer(self, batch: Batch) -> Probabilities:
        """Classifies a batch.

        Args:
            batch: uint8 [N, crop_size, crop_size, 3], RGB, as one array or as a sequence of N images,
                1 <= N <= spec.max_batch_size. It is copied before the call returns.

        Returns:
            float32 [N, num_classes], each row sums to 1; owned by the caller.
        """
        ...

    def warm_up(self) -> None:
        """Runs every batch size that will be served, so that no request pays for a first time."""
        ...

    def close(self) -> None:
        """Frees device memory. The engine is not used afterwards."""
        ...


@dataclass(frozen=True)
class EngineOptions:
    """How to load an engine on this machine.

    Attributes:
        device: "auto", "cpu" or "cuda".
        intra_op_threads: threads on a CPU; 0 takes what was fastest when the bundle was made, else the
            backend's own choice.
        streams: parts of a batch that run at the same time; 0 likewise. Only some engines can.
        max_batch_size: largest batch that will be asked for.
        frequent: batch sizes up to it that are to be as fast as can be, besides `max_batch_size`.
    """

    device: str = "auto"
    intra_op_threads: int = 0
    streams: int = 0
    max_batch_size: int = 32
    frequent: tuple[int, ...] = ()

    @property
    def prepared_sizes(self) -> tuple[int, ...]:
        """Batch sizes, rising, that int8 engines have a graph of their own for; each takes some 30 MB."""
        return tuple(sorted({*buckets_up_to(self.max_batch_size, 4), *self.frequent}))
