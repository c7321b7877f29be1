"""torch's graphs -> OpenVINO's. Needs the extra `openvino`."""

from __future__ import annotations

import sys
from typing import Any

import torch

from models.networks.graph import jit_warnings_ignored


def to_openvino(graph: torch.nn.Module, example: torch.Tensor) -> Any:
    """The openvino.Model of a graph, for batches of any size.

    Args:
        graph: uint8 [N, H, W, 3] -> scores float32 [N, num_classes].
        example: of its input.

    Raises:
        ImportError: OpenVINO is not installed.
        Exception: it cannot be converted.
    """
    forbid_telemetry()
    import openvino

    shape = [-1, *example.shape[1:]]
    with jit_warnings_ignored():
        return openvino.convert_model(graph, example_input=example, input=[(shape, openvino.Type.u8)])


def forbid_telemetry() -> None:
    """OpenVINO's and NNCF's converters report their use to a statistics server unless this package is missing."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
