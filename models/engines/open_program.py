"""From a program's file to what runs it."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn

from models.engines.bare_way import Opened
from models.engines.load_checks import Triple, move_constants
from models.engines.torchscript import load_module
from models.errors import EngineError
from models.networks.graph import jit_warnings_ignored
from models.networks.programs import EXPORT, ONNX, format_of

_LARGEST_BATCH = 256
_STATIC = {
    EXPORT: "torch.export.export(model.eval(), (images,), dynamic_shapes=({0: torch.export.Dim('batch')},))",
    ONNX: "torch.onnx.export(…, dynamic_shapes=({0: torch.export.Dim('batch')},)), or dynamic_axes of the old one",
}


def open_program(file: Path, side: int, device: str = "cpu", threads: int = 0) -> Opened:
    """Reads a program.

    Args:
        file: of one of `models.networks.programs.FORMATS`.
        side: H and W of its input.
        device: "cpu" or "cuda"; ONNX runs on a CPU only.
        threads: of ONNX Runtime; 0 leaves the choice to it. torch has one number for the whole process.

    Raises:
        EngineError: it does not load, or its input is no batch of images of that size; names the file.
    """
    kind = format_of(file)
    if kind == ONNX:
        return _open_onnx(file, side, threads)
    if kind == EXPORT:
        return _open_exported(file, side, device)
    module = load_module(file, device)
    move_constants(module, device)
    return Opened(module, module)


def _open_onnx(file: Path, side: int, threads: int) -> Opened:
    try:
        onnx_session = import_module("models.engines.onnx_session")
    except ImportError:
        raise EngineError(f"{file}: ONNX needs the package onnxruntime: pip install 'snapserve[onnx]'") from None
    session = onnx_session.OnnxSession(file, threads)
    check_input(file, ONNX, session.input_shapes, side)
    return Opened(session, triples=_onnx_triples(file))


def _onnx_triples(file: Path) -> list[Triple]:
    """Name and values of the constants of three numbers, as far as OpenVINO is here to read them."""
    try:
        import openvino

        nodes = openvino.Core().read_model(file).get_ops()
    except (ImportError, RuntimeError):
        return []
    constants = [
        each for each in nodes if each.get_type_name() == "Constant" and each.get_element_type().is_real()
    ]
    return [(each.get_friendly_name(), each.data.flatten().tolist()) for each in constants if each.data.size == 3]


def load_exported(file: Path) -> torch.export.ExportedProgram:
    """torch.export.load with its failures turned into one line. Raises EngineError."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.load(file)
    except Exception as error:  # a damaged one raises nearly anything
        first = (str(error).strip().splitlines() or [""])[0][:200]
        raise EngineError(f"{file}: torch.export cannot read it here ({type(error).__name__}: {first})") from None


def _open_exported(file: Path, side: int, device: str) -> Opened:
    exported = load_exported(file)
    inputs = [
        node.meta["val"]
        for node in exported.graph.nodes
        if node.op == "placeholder" and node.name in exported.graph_signature.user_inputs
    ]
    shapes = [known_sizes(getattr(value, "shape", ())) for value in inputs]
    check_input(file, EXPORT, shapes, side)
    for bounds in exported.range_constraints.values():
        if bounds.upper < _LARGEST_BATCH:
            raise EngineError(
                f"{file}: takes batches of at most {bounds.upper}; export it without max: {_STATIC[EXPORT]}"
            )
    module = _Exported(exported.module()).to(device)
    example = torch.zeros(2, shapes[0][1] or 3, side, side, dtype=inputs[0].dtype, device=device)
    return Opened(module, _record(module, example))


class _Exported(nn.Module):
    """torch.export's module, which refuses `train` and `eval`: what it does was settled when it was exported."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def train(self, mode: bool = True) -> _Exported:
        return self

    def forward(self, images: torch.Tensor) -> Any:
        return self.module(images)


def _record(module: torch.nn.Module, example: torch.Tensor) -> Any | None:
    """Its TorchScript at this batch size, which is read, not run; None where it cannot be traced."""
    try:
        with jit_warnings_ignored(), torch.inference_mode():
            return torch.jit.trace(module, example, check_trace=False, strict=False)
    except Exception:  # the program's own
        return None


def known_sizes(shape: Iterable[object]) -> list[int | None]:
    """Of a shape in which symbols stand for sizes that may change: None for these."""
    return [each if isinstance(each, int) else None for each in shape]


def check_input(file: Path, kind: str, shapes: Sequence[Sequence[int | None]], side: int) -> None:
    """Compares what a program says of its inputs with what it will get.

    Args:
        file: to be named.
        kind: of it.
        shapes: of its inputs; None is a size that may change.
        side: H and W of its input.

    Raises:
        EngineError: it takes no batches of such images.
    """
    shown = " and ".join(f"[{', '.join(str(each or 'N') for each in shape)}]" for shape in shapes)
    images = f"[N, 3, {side}, {side}]"
    if len(shapes) != 1:
        raise EngineError(f"{file}: takes {len(shapes)} inputs ({shown}), expected one: images {images}")
    shape = shapes[0]
    if len(shape) != 4 or shape[1] not in (None, 1, 3):
        last = "; export it with its channels first" if len(shape) == 4 and shape[3] in (1, 3) else ""
        raise EngineError(f"{file}: takes {shown}, expected images {images}{last}")
    if shape[0] is not None:
        raise EngineError(
            f"{file}: takes batches of exactly {shape[0]} ({shown}); export it for batches of any size: "
            f"{_STATIC[kind]}"
        )
    other = [each for each in shape[2:] if each not in (None, side)]
    if other:
        raise EngineError(
            f"{file}: takes {shown}, but the preprocessing makes {images}; --preprocess FILE names the size, e.g. "
            f'{{"preset": "imagenet", "resize_size": {other[0]}, "crop_size": {other[0]}}}'
        )
