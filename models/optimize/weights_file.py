"""Weights as a file of a bundle."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import nn

from models.bundles.spec import EngineSpec


def write_weights(network: nn.Module, folder: Path, max_batch_size: int) -> EngineSpec:
    """Writes a network's weights and describes an engine that compiles them where it is loaded."""
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    # Not save_file, which writes a file that only its owner may read.
    (folder / "weights.safetensors").write_bytes(save(tensors))
    return EngineSpec("torchscript", "weights.safetensors", "", max_batch_size=max_batch_size)
