"""Replays graphs of a device: batches cut into pieces that take turns on two slots. Knows no files and no CUDA."""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from models.bundles.spec import EngineSpec
from models.engines.base import Batch, Probabilities
from models.engines.buckets import bucket_of, buckets_up_to, pieces_of
from models.engines.cuda_device import Device
from models.engines.slot import Slot, Turn
from models.engines.torch_engine import Graph

# Images in one run: enough to fill the card, and few enough that copies overlap with runs. On an H100 batches of
# 64 to 256 are up to 1.6 times as fast in pieces of 32 as whole, and not slower than in pieces of 64: docs/gpu.md
LARGEST_PIECE = 32
_SLOTS = 2
_WARM_UP_RUNS = 2

_Running = deque[tuple[Slot, slice]]


class GraphEngine:
    """Runs a graph: uint8 [N, H, W, 3] -> float32 [N, num_classes].

    A batch is cut into pieces, which take turns on two slots: while the device runs one piece, this thread copies
    the next into pinned memory and the device fetches it, and the last answers travel back. The runs themselves
    do not overlap, because the graphs share their memory. A batch of one piece overlaps with nothing, unless
    another thread calls `infer` meanwhile, which is allowed.

    Waiting for the device releases the interpreter lock: `torch.cuda.Event.synchronize` and
    `torch.cuda.CUDAGraph.replay` do so (torch/csrc/cuda/Event.cpp, Graph.cpp).
    """

    def __init__(
        self,
        device: Device,
        module: Graph,
        spec: EngineSpec,
        crop_size: int,
        num_classes: int,
        largest_piece: int = LARGEST_PIECE,
        bucket_factor: int = 2,
    ) -> None:
        """Records `module` for every bucket.

        Args:
            device: on which the module lies.
            module: row by row, and always the same work for a batch size; warmed up and captured here, on the
                calling thread.
            spec: as resolved on this machine.
            crop_size: H and W.
            num_classes: columns of an answer.
            largest_piece: images in one run; larger batches are cut.
            bucket_factor: between neighbouring buckets.

        Raises:
            RuntimeError: the module does not run, or cannot be recorded.
        """
        self.spec = spec
        self.num_classes = num_classes
        self.buckets = buckets_up_to(min(largest_piece, spec.max_batch_size), bucket_factor)
        self._device = device
        self._module = module  # its weights: a graph knows their addresses, but does not keep them
        self._shape = (crop_size, crop_size, 3)
        turn = Turn(device)
        self._slots = [Slot(device, turn, self.buckets, crop_size, num_classes) for _ in range(_SLOTS)]
        # The largest first: the smaller ones then fit into its memory.
        for bucket in reversed(self.buckets):
            for slot in self._slots:
                slot.capture(module, bucket)
        self._free: SimpleQueue[Slot] = SimpleQueue()
        for slot in self._slots:
            self._free.put(slot)

    def infer(self, batch: Batch) -> Probabilities:
        """Runs a batch in pieces; see `Engine.infer`."""
        size = len(batch)
        if not 1 <= size <= self.spec.max_batch_size:
            raise ValueError(f"batch of {size}, expected 1 to {self.spec.max_batch_size}")
        answers: Probabilities = np.empty((size, self.num_classes), np.float32)
        running: _Running = deque()
        try:
            for piece in pieces_of(size, self.buckets[-1]):
                running.append((self._free_slot(running, answers), piece))
                running[-1][0].begin(batch[piece])
            while running:
                self._finish_oldest(running, answers)
        finally:
            self._abandon(running)
        return answers

    def _free_slot(self, running: _Running, answers: Probabilities) -> Slot:
        # A thread that holds slots never waits for another's, so two threads cannot wait for each other.
        while running:
            with suppress(Empty):
                return self._free.get_nowait()
            self._finish_oldest(running, answers)
        return self._free.get()

    def _finish_oldest(self, running: _Running, answers: Probabilities) -> None:
        slot, piece = running[0]
        slot.finish(answers[piece])
        running.popleft()
        self._free.put(slot)

    def _abandon(self, running: _Running) -> None:
        """Frees the slots of a batch that failed, when the device has stopped reading from them."""
        if not running:
            return
        with suppress(RuntimeError):  # the first error, which is on its way, tells more
            self._device.synchronize()
        for slot, _ in running:
            self._free.put(slot)

    def warm_up(self) -> None:
        """Runs every bucket and the largest batch."""
        for size in {*self.buckets, self.spec.max_batch_size}:
            for _ in range(_WARM_UP_RUNS):
                self.infer(np.zeros((size, *self._shape), np.uint8))

    def launch(self, size: int, stream: Any) -> None:
        """Asks for the runs of a batch of `size` images, without copies: for measurements."""
        for number, piece in enumerate(pieces_of(size, self.buckets[-1])):
            bucket = bucket_of(piece.stop - piece.start, self.buckets)
            self._slots[number % _SLOTS].launch(bucket, stream)

    def close(self) -> None:
        """Frees graphs and buffers."""
        self._device.synchronize()
        del self._slots, self._free, self._module
        self._device.free()
