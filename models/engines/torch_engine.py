"""Any torch program as an engine: staging buffers, threads, device."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from models.bundles.spec import EngineSpec
from models.engines.base import Batch, Probabilities
from models.engines.buckets import bucket_of, buckets_up_to

Graph = Callable[[torch.Tensor], torch.Tensor]

_WARM_UP_RUNS = 2


class TorchEngine:
    """Runs a graph: uint8 [N, H, W, 3] -> float32 [N, num_classes].

    Attributes:
        notices: warnings about it, a line each.
    """

    notices: tuple[str, ...] = ()

    def __init__(self, module: Graph, spec: EngineSpec, crop_size: int, num_classes: int) -> None:
        self.spec = spec
        self.num_classes = num_classes
        self._module = module
        self._device = torch.device(spec.device)
        on_cuda = self._device.type == "cuda"
        shape = (spec.max_batch_size, crop_size, crop_size, 3)
        # Pinned, so that the copy to the device runs without a detour and without blocking this thread.
        self._staging = torch.zeros(shape, dtype=torch.uint8, pin_memory=on_cuda)
        self._staging_view = self._staging.numpy()
        self._input = torch.zeros(shape, dtype=torch.uint8, device=self._device) if on_cuda else self._staging
        self._buckets = buckets_up_to(spec.max_batch_size) if on_cuda else ()
        if on_cuda:
            torch.backends.cudnn.benchmark = True

    @torch.inference_mode()
    def infer(self, batch: Batch) -> Probabilities:
        """Runs a batch; see `Engine.infer`."""
        size = len(batch)
        if not 1 <= size <= self.spec.max_batch_size:
            raise ValueError(f"batch of {size}, expected 1 to {self.spec.max_batch_size}")
        if self.spec.threads and torch.get_num_threads() != self.spec.threads:
            torch.set_num_threads(self.spec.threads)  # of the process; another engine may have changed it
        for row, image in enumerate(batch):
            self._staging_view[row] = image
        images = self._input[:size]
        if self._buckets:
            images.copy_(self._staging[:size], non_blocking=True)
            # cuDNN searches its algorithms anew for every batch size, which takes long: there are to be few sizes.
            images = self._input[: bucket_of(size, self._buckets)]
        # The copy back waits for the device, after which the staging buffer may be written again.
        probabilities: Probabilities = self._module(images)[:size].cpu().numpy()
        return probabilities

    def warm_up(self) -> None:
        """Runs every batch size that has a graph, else one image and two: a large batch is not slower at first."""
        # TorchScript profiles the first run and optimises in the second.
        for size in self._buckets or (1, min(2, self.spec.max_batch_size)):
            for _ in range(_WARM_UP_RUNS):
                self.infer(np.zeros((size, *self._staging_view.shape[1:]), np.uint8))

    def close(self) -> None:
        """Frees the graph and the buffers."""
        del self._module, self._input, self._staging_view, self._staging
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
