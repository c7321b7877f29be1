"""ONNX files and torch.export's programs, which OpenVINO converts itself, between two converted torch modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from models.engines.open_program import load_exported
from models.networks.graph import ServingGraph
from models.networks.programs import ONNX
from models.optimize.candidates.base import Job
from models.optimize.program import Program


class _Front(ServingGraph):
    """uint8 [N, H, W, 3] -> the program's input."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inputs: torch.Tensor = self.network(self.normalise(images))
        return inputs


class _Back(ServingGraph):
    """The program's output -> scores float32 [N, num_classes]."""

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return self.activate(self.network(outputs))


class _Step(nn.Module):
    """A method of a program as a module."""

    def __init__(self, forward: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self._forward = forward

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self._forward(images)


def convert_in_parts(job: Job, program: Program) -> Any:
    """The openvino.Model: uint8 [N, side, side, 3] -> scores float32 [N, num_classes]."""
    import openvino

    side = job.preprocess.crop_size
    before = _Front(_Step(program.enter), job.preprocess).eval()
    after = _Back(_Step(program.leave), job.preprocess, activation=job.activation).eval()
    with torch.inference_mode():
        outputs = program.output_of(before(job.example())).clone()
    front = openvino.convert_model(
        before, example_input=job.example(), input=[([-1, side, side, 3], openvino.Type.u8)]
    )
    back = openvino.convert_model(
        after, example_input=outputs, input=[openvino.PartialShape([-1, *outputs.shape[1:]])]
    )
    return _joined(_joined(front, _convert(program), 0), back, program.calling.position)


def _convert(program: Program) -> Any:
    import openvino

    if program.kind == ONNX:
        return openvino.convert_model(program.file)
    return openvino.convert_model(load_exported(program.file))


def _joined(first: Any, second: Any, position: int) -> Any:
    """One model: the output of `first` at `position` is the only input of `second`."""
    import openvino

    (entry,) = second.get_parameters()
    entry.output(0).replace(first.results[position].input_value(0))
    model = openvino.Model(second.results, first.get_parameters(), first.friendly_name)
    model.validate_nodes_and_infer_types()
    return model
