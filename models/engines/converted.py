"""A TorchScript graph that OpenVINO runs: the same answers, a lone image in about half of the time."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import nn

from models.engines.conversion import to_openvino
from models.machine.signal_stack import kept_signal_stack

log = logging.getLogger("snapserve")

_CLOSE = {"rtol": 1e-4, "atol": 1e-5}  # of scores, and of outputs as a network gives them


class Converted(nn.Module):
    """The graph as OpenVINO has compiled it, in fp32."""

    def __init__(self, request: Any) -> None:
        super().__init__()
        self._request = request

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 [N, H, W, 3], contiguous. Returns scores float32 [N, num_classes]."""
        import openvino

        self._request.set_input_tensor(openvino.Tensor(images.numpy(), shared_memory=True))
        self._request.infer()
        return torch.from_numpy(self._request.get_output_tensor().data.copy())


def converted(graph: torch.jit.ScriptModule, images: torch.Tensor, threads: int) -> nn.Module | None:
    """The same graph run by OpenVINO; None where that is not installed, or the answers differ.

    Args:
        graph: uint8 [N, H, W, 3] -> scores float32 [N, num_classes], on the CPU.
        images: whose answers are compared; at least two.
        threads: of the CPU; 0: one per core.
    """
    try:
        found = Converted(_request(to_openvino(graph, images), threads))
        batches = (images, images[:1])
        same = all(torch.allclose(found(each), graph(each), **_CLOSE, equal_nan=True) for each in batches)
    except ImportError:
        return None
    except Exception as error:  # the program is a user's and may raise anything
        log.info("it stays TorchScript, OpenVINO does not take it: %s", type(error).__name__)
        return None
    return found if same else None


def _request(model: Any, threads: int) -> Any:
    import openvino

    from models.engines.openvino import settings_of

    with kept_signal_stack():
        return openvino.Core().compile_model(model, "CPU", settings_of("fp32", threads)).create_infer_request()
