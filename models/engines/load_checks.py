"""Whether a program answers an image with the same scores every time, wherever in a batch it stands."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from models.errors import EngineError

Run = Callable[[torch.Tensor], torch.Tensor]
Triple = tuple[str, list[float]]  # name and values of what holds three numbers

AGAIN = "export it again after model.eval()"

# Operators that act in training only, and the position of the argument that tells them so.
_RANDOM = {
    "aten::dropout": 2,
    "aten::dropout_": 2,
    "aten::feature_dropout": 2,
    "aten::feature_dropout_": 2,
    "aten::alpha_dropout": 2,
    "aten::feature_alpha_dropout": 2,
    "aten::rrelu": 3,
    "aten::rrelu_": 3,
}
_BATCH_NORM = {"aten::batch_norm": 5}

_RESHAPING = {
    f"aten::{name}" for name in ("view", "reshape", "flatten", "squeeze", "unsqueeze", "to", "contiguous")
}
_LINEAR = {f"aten::{name}" for name in ("linear", "addmm", "matmul", "_convolution", "conv2d")}
# One of them is in every program that ends in scores.
_BOUNDED = {"sigmoid", "softmax", "_softmax", "hardsigmoid", "clamp", "hardtanh", "div", "tanh", "exp"}

# Known means and standard deviations of three channels, of values 0 to 1: ImageNet's, CLIP's.
_MEANS = ((0.485, 0.456, 0.406), (0.48145466, 0.4578275, 0.40821073))
_STDS = ((0.229, 0.224, 0.225), (0.26862954, 0.26130258, 0.27577711))
_HALF = (0.5, 0.5, 0.5)

# Of the largest output: what adding up in another order changes.
_ROUNDING = {"fp64": 1e-6, "fp32": 1e-4, "fp16": 1e-2, "bf16": 5e-2, "int8": 5e-2}
_OF_SPREAD = 0.02  # of what different images change


def probes(side: int, device: str) -> torch.Tensor:
    """Four images that differ in brightness, contrast and colour: uint8 [4, side, side, 3].

    Noise, a red and dark image, a white one, a gradient: what a batch's mean and variance tell apart.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, side, side, 3), dtype=torch.uint8, generator=generator)
    images[1] = images[1] // 8 + torch.tensor([120, 0, 0], dtype=torch.uint8)
    images[2] = 255
    images[3] = torch.linspace(0, 128, side).to(torch.uint8)[:, None, None].expand(side, side, 3)
    return images.to(device)


def check_mode(module: Any) -> None:
    """Raises EngineError where the recorded program drops out, or normalises by its batch, as in training."""
    graph = module.inlined_graph
    if name := _active(graph, _RANDOM):
        raise EngineError(f"was exported in training mode: {name} is active, so answers are random; {AGAIN}")
    if _active(graph, _BATCH_NORM):
        raise EngineError(
            "was exported in training mode: BatchNorm takes mean and variance from the batch, so an image's "
            f"answer depends on the others in its batch; {AGAIN}, and train with track_running_stats"
        )


def _active(graph: Any, operators: dict[str, int]) -> str:
    for name, position in operators.items():
        # Not those in a branch, which may never be taken.
        for node in graph.findAllNodes(name, recurse=False):
            if list(node.inputs())[position].toIValue() is True and _acts(node, name):
                return name.removeprefix("aten::").rstrip("_")
    return ""


def _acts(node: Any, name: str) -> bool:
    """A dropout of probability 0 does nothing."""
    return "dropout" not in name or list(node.inputs())[1].toIValue() != 0


def check_answers(run: Run, images: torch.Tensor, outputs: torch.Tensor, precision: str) -> None:
    """Asks about the same images in other places of the batch, and about some alone.

    Args:
        run: uint8 [N, side, side, 3] -> float [N, columns].
        images: different from each other.
        outputs: what `run` has answered to them.
        precision: of the computation; "int8" for quantised programs.

    Raises:
        EngineError: an image has different answers; the message begins behind the file's name.
    """
    spread = float((outputs - outputs.mean(dim=0)).abs().max())
    limit = max(_ROUNDING[precision] * float(outputs.abs().max()), _OF_SPREAD * spread)
    moved = run(images.roll(1, dims=0)).roll(-1, dims=0)
    if _differ(moved, outputs, limit):
        if _differ(run(images), outputs, limit):
            raise EngineError(f"answers the same images differently each time, as dropout does; {AGAIN}")
        raise EngineError("an image's answer depends on its place in the batch, or on its neighbours there")
    for row in (0, 2):
        if _differ(run(images[row : row + 1]), outputs[row : row + 1], limit):
            raise EngineError(
                "an image alone has another answer than among others: its neighbours change it (BatchNorm in "
                f"training mode?); {AGAIN}"
            )


def _differ(actual: torch.Tensor, expected: torch.Tensor, limit: float) -> bool:
    return actual.shape != expected.shape or not bool(((actual - expected).abs() <= limit).all())


def normalisation_inside(triples: Sequence[Triple]) -> str:
    """The mean that a program subtracts itself, in words: "mean 0.485 0.456 0.406"; "" where none is seen.

    Looks for a known mean and a known standard deviation, of values 0 to 1 or 0 to 255.

    Args:
        triples: all that holds three numbers in the program.
    """
    for mean in _MEANS:
        if any(_like(values, mean) for _, values in triples) and any(
            _like(values, std) for std in _STDS for _, values in triples
        ):
            return "mean " + " ".join(f"{value:.3g}" for value in mean)
    named = [name for name, values in triples if _like(values, _HALF)]
    if any("mean" in name.lower() for name in named) and any("std" in name.lower() for name in named):
        return "mean 0.5"
    return ""


def _like(values: Sequence[float], known: Sequence[float]) -> bool:
    return any(
        all(math.isclose(value, scale * each, rel_tol=2e-3) for value, each in zip(values, known, strict=True))
        for scale in (1, 255, -1)
    ) or all(math.isclose(value * each, 1, rel_tol=2e-3) for value, each in zip(values, known, strict=True))


def triples_of(module: Any) -> Iterator[Triple]:
    """Name and values of the tensors and lists of three numbers in TorchScript."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.numel() == 3 and tensor.is_floating_point():
            yield name, tensor.detach().flatten().tolist()
    graph = module.inlined_graph
    for node in graph.findAllNodes("prim::Constant"):
        value = node.output().toIValue()
        if isinstance(value, torch.Tensor) and value.numel() == 3 and value.is_floating_point():
            yield "", value.detach().flatten().tolist()
        elif isinstance(value, list) and len(value) == 3 and all(isinstance(each, float) for each in value):
            yield "", value
    for node in graph.findAllNodes("prim::ListConstruct"):
        values = [each.toIValue() for each in node.inputs()]
        if len(values) == 3 and all(isinstance(each, float) for each in values):
            yield "", values


def may_end_in_scores(module: Any) -> bool:
    """Whether the last step may give scores: it is no linear layer, and some step gives values between 0 and 1.

    An untrained MobileNet's logits lie between 0 and 1, and its ReLU6 keeps them there whatever the input.
    """
    graph = module.inlined_graph  # nodes live as long as it does
    node = next(graph.outputs()).node()
    while node.kind() in _RESHAPING:
        node = next(node.inputs()).node()
    if node.kind() in _LINEAR:
        return False
    names = {node.kind().partition("::")[2].rstrip("_") for node in _nodes(graph)}
    return bool(names & _BOUNDED)


def is_quantised(module: Any) -> bool:
    """Whether the program has int8 operators."""
    return any(node.kind().startswith("quantized::") for node in _nodes(module.inlined_graph))


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def move_constants(module: Any, device: str) -> None:
    """Rewrites devices that a trace has recorded, such as those of `torch.zeros(…, device=x.device)`."""
    for each in module.modules():
        try:
            graph = each.graph
        except RuntimeError:  # a module without forward
            continue
        for node in graph.findAllNodes("prim::Constant"):
            if str(node.output().type()) == "Device" and node.s("value") != device:
                node.s_("value", device)
