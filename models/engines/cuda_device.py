"""What the CUDA graph engine asks of a device: streams, events, copies, graphs. The engine's tests simulate it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Protocol

import torch

Run = Callable[[], object]

# Until TorchScript's executor has profiled, optimised and settled, and cuDNN has chosen its algorithms: whatever
# is compiled, chosen or allocated for good during a capture would break it or be lost.
_WARM_UP_RUNS = 4
# torch allows one capture at a time in a process: https://docs.pytorch.org/docs/stable/notes/cuda.html#constraints
_one_capture = threading.Lock()


class Event(Protocol):
    """A mark in a stream; one that was never recorded is not waited for."""

    def record(self, stream: Any) -> None:
        """Marks what has been asked of the stream so far."""
        ...

    def wait(self, stream: Any) -> None:
        """What is asked of the stream from now on waits for the mark; returns at once."""
        ...

    def synchronize(self) -> None:
        """Waits here for the mark."""
        ...


class Device(Protocol):
    """Runs copies and graphs in streams: those of one stream in order, those of two at the same time."""

    def stream(self) -> Any:
        """A new stream."""
        ...

    def event(self) -> Event:
        """A new event."""
        ...

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Zeros on the host, which the device can copy from and to while this thread goes on."""
        ...

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Zeros on the device."""
        ...

    def capture(self, run: Run) -> Any:
        """Records what `run` does on the device. It must always use the same tensors.

        Graphs of one device share their memory: none may run before the last one has ended.

        Raises:
            RuntimeError: `run` fails, or does what cannot be recorded.
        """
        ...

    def launch(self, graph: Any, stream: Any) -> None:
        """Asks for what was recorded to be done; returns at once."""
        ...

    def copy(self, target: torch.Tensor, source: torch.Tensor, stream: Any) -> None:
        """Asks for a copy between the host and the device; returns at once."""
        ...

    def synchronize(self) -> None:
        """Waits for all that was asked for."""
        ...

    def free(self) -> None:
        """Gives unused memory back."""
        ...


class CudaDevice:
    """The current CUDA device."""

    def __init__(self) -> None:
        # All captures share one pool and therefore one stream: memory is reused within a stream only.
        # https://docs.pytorch.org/docs/stable/generated/torch.cuda.graph.html
        self._pool = torch.cuda.graph_pool_handle()
        self._capture_stream = torch.cuda.Stream()

    def stream(self) -> torch.cuda.Stream:
        """A new stream."""
        return torch.cuda.Stream()

    def event(self) -> Event:
        """A new event."""
        # Blocking: the waiting thread sleeps. The default burns a core, of which the decode threads have too few.
        return torch.cuda.Event(blocking=True)

    def host_buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Zeros in pinned memory."""
        return torch.zeros(shape, dtype=dtype, pin_memory=True)

    def buffer(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Zeros on the device."""
        return torch.zeros(shape, dtype=dtype, device="cuda")

    def capture(self, run: Run) -> torch.cuda.CUDAGraph:
        """Records a CUDA graph; raises RuntimeError."""
        graph = torch.cuda.CUDAGraph()
        # Not inference_mode: tensors that torch makes for itself in the first capture could not be written later.
        # https://github.com/pytorch/pytorch/issues/166792
        with _one_capture, torch.no_grad():
            torch.cuda.synchronize()  # the buffers' zeros and the weights were written in another stream
            # On this thread and in this stream, whose cuDNN choices and cuBLAS handles the capture finds then.
            with torch.cuda.stream(self._capture_stream):
                for _ in range(_WARM_UP_RUNS):
                    run()
            # thread_local: another model may be serving on its own thread meanwhile.
            with torch.cuda.graph(
                graph, pool=self._pool, stream=self._capture_stream, capture_error_mode="thread_local"
            ):
                run()
        return graph

    def launch(self, graph: torch.cuda.CUDAGraph, stream: torch.cuda.Stream) -> None:
        """Replays a graph in a stream; returns at once."""
        with torch.cuda.stream(stream):
            graph.replay()

    def copy(self, target: torch.Tensor, source: torch.Tensor, stream: torch.cuda.Stream) -> None:
        """Copies in a stream; returns at once."""
        with torch.cuda.stream(stream):
            target.copy_(source, non_blocking=True)

    def synchronize(self) -> None:
        """Waits for all streams."""
        torch.cuda.synchronize()

    def free(self) -> None:
        """Gives unused memory back to the driver."""
        torch.cuda.empty_cache()
