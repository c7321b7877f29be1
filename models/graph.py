"""From a network to the graph that is served: uint8 pixels in, probabilities out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from models.spec import PreprocessSpec

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class ServingGraph(nn.Module):
    """Normalisation, network and softmax in one module.

    Pixels travel to the device as bytes, a quarter of the size of floats, and the host does no float work.
    Normalisation and softmax are computed in fp32 whatever the network's precision.
    """

    def __init__(
        self, network: nn.Module, preprocess: PreprocessSpec, precision: str = "fp32", softmax: bool = True
    ) -> None:
        super().__init__()
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.network = network
        self.dtype = DTYPES[precision]
        self.softmax = softmax

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """images: uint8 [N, H, W, 3], RGB. Returns probabilities float32 [N, num_classes]."""
        # [N, H, W, 3] seen as [N, 3, H, W] is channels-last already: nothing is copied.
        normalised = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        outputs = self.network(normalised.to(self.dtype)).float()
        return torch.softmax(outputs, dim=1) if self.softmax else outputs


def build_graph(
    network: nn.Module, preprocess: PreprocessSpec, precision: str, device: torch.device, channels_last: bool
) -> ServingGraph:
    """Puts `network`, whose weights are converted in place, into a ServingGraph on `device`."""
    network = network.eval().to(device=device, dtype=DTYPES[precision])
    if channels_last:
        network = network.to(memory_format=torch.channels_last)
    return ServingGraph(network, preprocess, precision).eval().to(device)


def compile_graph(graph: nn.Module, example: torch.Tensor, script: bool = False) -> torch.jit.ScriptModule:
    """Traces (or scripts, for control flow that depends on data) and freezes.

    Args:
        graph: in eval mode.
        example: an input like those to come, with at least two rows, so that no size of 1 is traced as fixed.
        script: compile the source instead of recording one run.
    """
    with jit_warnings_ignored(), torch.inference_mode():
        if script:
            compiled = torch.jit.script(graph)
        else:
            compiled = torch.jit.trace(graph, example, check_trace=False)
        return torch.jit.freeze(compiled)


@contextmanager
def jit_warnings_ignored() -> Iterator[None]:
    """torch.jit is deprecated since torch 2.11 and says so at every call; it works on Python up to 3.13."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*torch\\.jit", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=".*torch\\.jit", category=FutureWarning)
        yield
