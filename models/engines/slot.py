"""A place for one batch on its way through the device: buffers, a stream, and a graph per bucket."""

from __future__ import annotations

import threading
from typing import Any

import torch

from models.engines.base import Batch, Probabilities
from models.engines.buckets import bucket_of
from models.engines.cuda_device import Device
from models.engines.torch_engine import Graph


class Turn:
    """Lets graphs that share memory run one after another, whichever streams and threads they come from."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._lock = threading.Lock()
        self._ended = device.event()

    def launch(self, graph: Any, stream: Any) -> None:
        """Asks for a run of `graph` in `stream` that begins when the last one has ended; returns at once."""
        with self._lock:
            self._ended.wait(stream)
            self._device.launch(graph, stream)
            self._ended.record(stream)


class Slot:
    """Takes a batch, sends it through the device, and hands out the answer; then it is free for another.

    What a graph reads and writes lies at fixed addresses, outside the memory that graphs share. A batch that is
    smaller than its bucket is computed together with what an earlier batch left there; those answers stay on the
    device.
    """

    def __init__(
        self, device: Device, turn: Turn, buckets: tuple[int, ...], crop_size: int, num_classes: int
    ) -> None:
        pixels, scores = (buckets[-1], crop_size, crop_size, 3), (buckets[-1], num_classes)
        self._device = device
        self._turn = turn
        self._buckets = buckets
        self._stream = device.stream()
        self._done = device.event()
        self._staging = device.host_buffer(pixels, torch.uint8)
        self._staging_view = self._staging.numpy()
        self._input = device.buffer(pixels, torch.uint8)
        self._output = device.buffer(scores, torch.float32)
        self._answers = device.host_buffer(scores, torch.float32)
        self._answers_view: Probabilities = self._answers.numpy()
        self._graphs: dict[int, Any] = {}
        self._size = 0

    def capture(self, module: Graph, bucket: int) -> None:
        """Records `module` for batches of `bucket` images.

        Raises:
            RuntimeError: the module does not run on such a batch, or cannot be recorded.
        """

        def run() -> None:
            self._output[:bucket].copy_(module(self._input[:bucket]))

        self._graphs[bucket] = self._device.capture(run)

    def begin(self, batch: Batch) -> None:
        """Copies uint8 [N, crop, crop, 3], N up to the largest bucket, and asks the device for the rest."""
        size = self._size = len(batch)
        for row, image in enumerate(batch):
            self._staging_view[row] = image
        self._device.copy(self._input[:size], self._staging[:size], self._stream)
        self._turn.launch(self._graphs[bucket_of(size, self._buckets)], self._stream)
        self._device.copy(self._answers[:size], self._output[:size], self._stream)
        self._done.record(self._stream)

    def finish(self, answer: Probabilities) -> None:
        """Waits for the device and writes float32 [N, num_classes] into `answer`."""
        self._done.synchronize()
        answer[:] = self._answers_view[: self._size]

    def launch(self, bucket: int, stream: Any) -> None:
        """Asks for one run without copies, on what lies on the device: for measurements."""
        self._turn.launch(self._graphs[bucket], stream)
