"""From a network to the graph that is served: uint8 pixels in, scores out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch
from torch import nn

from models.bundles.spec import PreprocessSpec
from models.errors import ModelError

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp64": torch.float64}


class ServingGraph(nn.Module):
    """Normalisation, network and activation in one module.

    Pixels travel to the device as bytes, a quarter of the size of floats, and the host does no float work.
    Normalisation and activation are computed in fp32 whatever the network's precision.
    """

    def __init__(
        self,
        network: nn.Module,
        preprocess: PreprocessSpec,
        precision: str = "fp32",
        activation: str = "softmax",
        channels_last: bool = True,
        grey: bool = False,
    ) -> None:
        """Creates it.

        Args:
            network: normalised [N, 3, H, W], or [N, 1, H, W] for `grey` -> outputs [N, num_classes].
            preprocess: mean and std.
            precision: in which the network computes.
            activation: one of `models.bundles.spec.ACTIVATIONS`.
            channels_last: False for networks that cannot take their input in that layout.
            grey: the network takes one channel, which has the mean and std of the first.
        """
        super().__init__()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        # Annotated here: torch.jit cannot read annotations of the class as the strings that they are.
        self.scale: torch.Tensor
        self.shift: torch.Tensor
        channels = 1 if grey else 3
        self.register_buffer("scale", (1 / (255 * std))[:channels].view(1, channels, 1, 1))
        self.register_buffer("shift", (-mean / std)[:channels].view(1, channels, 1, 1))
        self.network = network
        self.dtype = DTYPES[precision]
        self.activation = activation
        self.channels_last = channels_last
        self.grey = grey

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 [N, H, W, 3], RGB. Returns scores float32 [N, num_classes]."""
        return self.activate(self.network(self.normalise(images)).float())

    def activate(self, outputs: torch.Tensor) -> torch.Tensor:
        """Outputs -> scores, float32 [N, num_classes]."""
        if self.activation == "softmax":
            return torch.softmax(outputs, dim=1)
        return torch.sigmoid(outputs) if self.activation == "sigmoid" else outputs

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 [N, H, W, 3], RGB. Returns the network's input, [N, 3, H, W] or, grey, [N, 1, H, W]."""
        # [N, H, W, 3] seen as [N, 3, H, W] is channels-last already: nothing is copied.
        images = images.permute(0, 3, 1, 2)
        if self.grey:
            images = as_grey(images)
        normalised = images.float() * self.scale + self.shift
        if not self.channels_last:
            normalised = normalised.contiguous()
        return normalised.to(self.dtype)


def as_grey(images: torch.Tensor) -> torch.Tensor:
    """Levels [N, 3, H, W], RGB, 0 to 255 -> int32 [N, 1, H, W], as Pillow's conversion to mode L gives them.

    Its weights are those of ITU-R BT.601, in 65,536ths.
    """
    red, green, blue = images.int().unbind(1)
    return ((red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16).unsqueeze(1)


def build_graph(
    network: nn.Module,
    preprocess: PreprocessSpec,
    precision: str,
    device: torch.device,
    channels_last: bool,
    activation: str = "softmax",
) -> ServingGraph:
    """Puts `network`, whose weights are converted in place, into a ServingGraph on `device`."""
    network = network.eval().to(device=device, dtype=DTYPES[precision])
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return ServingGraph(network, preprocess, precision, activation).eval().to(device)


def compile_graph(graph: nn.Module, example: torch.Tensor, script: bool = False) -> torch.jit.ScriptModule:
    """Traces (or scripts, for control flow that depends on data) and freezes.

    Args:
        graph: in eval mode.
        example: an input like those to come, with at least two rows, so that no size of 1 is traced as fixed.
        script: compile the source instead of recording one run.
    """
    return _freeze(_record(graph, example, script))


def _record(graph: nn.Module, example: torch.Tensor, script: bool) -> torch.jit.ScriptModule:
    with jit_warnings_ignored(), torch.inference_mode():
        recorded: torch.jit.ScriptModule = (
            torch.jit.script(graph) if script else torch.jit.trace(graph, example, check_trace=False)
        )
        return recorded


def _freeze(recorded: torch.jit.ScriptModule) -> torch.jit.ScriptModule:
    with jit_warnings_ignored(), torch.inference_mode():
        frozen: torch.jit.ScriptModule = torch.jit.freeze(recorded)
        return frozen


def trace_or_script(graph: nn.Module, example: torch.Tensor) -> tuple[torch.jit.ScriptModule, str]:
    """Traces, or scripts where the trace fails or answers differently from `graph` at other batch sizes.

    Args:
        graph: in eval mode.
        example: as in `compile_graph`.

    Returns:
        The frozen graph, and "traced" or "scripted".

    Raises:
        ModelError: neither gives the answers of `graph` at batch sizes 1 and 3.
    """
    for script, how in ((False, "traced"), (True, "scripted")):
        # Both compile a program of a user: it may raise any exception.
        with suppress(Exception):
            recorded = _record(graph, example, script)
            if all(_answers_alike(recorded, graph, probe) for probe in _probes(example)):
                return _freeze(recorded), how
    raise ModelError("neither tracing nor scripting gives the network's own answers at batch sizes 1 and 3")


def _probes(example: torch.Tensor) -> list[torch.Tensor]:
    """One noise image, and three of different brightness, so that a recorded branch or size shows."""
    generator = torch.Generator().manual_seed(0)
    shape = (4, *example.shape[1:])
    if example.dtype == torch.uint8:
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        images[2], images[3] = 0, 255
    else:
        images = torch.randn(shape, generator=generator) * torch.tensor([1, 1, 0, 3]).view(4, 1, 1, 1)
    images = images.to(example.device, example.dtype)
    return [images[:1], images[1:]]


def _answers_alike(recorded: nn.Module, graph: nn.Module, probe: torch.Tensor) -> bool:
    """Before freezing, which folds constants: rounding in half precision then changes a score by up to a tenth."""
    with torch.inference_mode():
        actual, expected = recorded(probe), graph(probe)
    # The same operators in the same order, but some of them fused.
    half = any(parameter.dtype in (torch.float16, torch.bfloat16) for parameter in graph.parameters())
    limit = (0.03 if half else 1e-3) * float(expected.nan_to_num().abs().max())
    return actual.shape == expected.shape and torch.allclose(actual, expected, rtol=0, atol=limit, equal_nan=True)


@contextmanager
def jit_warnings_ignored() -> Iterator[None]:
    """torch.jit is deprecated since torch 2.11 and says so at every call; it works on Python up to 3.13.

    The tracer's own warnings are about what `trace_or_script` checks.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch\\.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch\\.jit", category=FutureWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        yield
