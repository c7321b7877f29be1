"""An ONNX file or a program of torch.export, which OpenVINO converts itself, between two converted torch modules."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from models.engines.open_program import load_exported
from models.graph import ServingGraph
from models.optimize.candidates.base import Job
from models.optimize.program import Program
from models.programs import ONNX


class _Front(nn.Module):
    """uint8 [N, H, W, 3] -> the program's input."""

    def __init__(self, graph: ServingGraph, program: Program) -> None:
        super().__init__()
        self.graph = graph
        self.enter = program.enter

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        inputs: torch.Tensor = self.enter(self.graph.normalise(images))
        return inputs


class _Back(nn.Module):
    """The program's output -> scores float32 [N, num_classes]."""

    def __init__(self, graph: ServingGraph, program: Program) -> None:
        super().__init__()
        self.graph = graph
        self.leave = program.leave

    def forward(self, outputs: torch.Tensor) -> torch.Tensor:
        return self.graph.activate(self.leave(outputs))


def convert_in_parts(job: Job, program: Program) -> Any:
    """The openvino.Model: uint8 [N, side, side, 3] -> scores float32 [N, num_classes]."""
    import openvino

    side = job.preprocess.crop_size
    graph = ServingGraph(nn.Identity(), job.preprocess, activation=job.activation).eval()
    images = job.example()
    front = openvino.convert_model(
        _Front(graph, program), example_input=images, input=[([-1, side, side, 3], openvino.Type.u8)]
    )
    middle = _convert(program)
    with torch.inference_mode():
        answer = program.output_of(_Front(graph, program)(images))
    shape = openvino.PartialShape([-1, *answer.shape[1:]])
    back = openvino.convert_model(_Back(graph, program), example_input=answer.clone(), input=[shape])
    return _joined(_joined(front, middle, 0), back, program.calling.position)


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
