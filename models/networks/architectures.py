"""Classification architectures by name: torchvision's, and timm's as "timm/NAME"."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

import torch
import torchvision
from torch import nn

from models.errors import ModelError
from models.networks.timm_networks import build_timm_network, check_timm_name, is_timm, name_of

StateDict = Mapping[str, torch.Tensor]


# torchvision's pretrained weights of these expect values in -1 … 1: `transform_input` converts from ImageNet's
# mean and std in the forward pass, which is the same as normalising with mean 0.5 and std 0.5 at once.
RENORMALISING = ("googlenet", "inception_v3")


def build_network(
    architecture: str,
    num_classes: int,
    transform_input: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A randomly initialised network in eval mode: float [N, 3, H, W], normalised -> logits [N, num_classes].

    Args:
        architecture: torchvision's name, or timm's behind "timm/".
        num_classes: length of an output row.
        transform_input: only for `RENORMALISING`: take input normalised with ImageNet's mean and std.
        options: further arguments of the builder, that JSON can hold.

    Raises:
        ModelError: there is no classification architecture of that name, timm is not installed, or the builder
            refuses the options.
    """
    check_architecture(architecture)
    if is_timm(architecture):
        return build_timm_network(_untagged(architecture), num_classes, options)
    given = dict(options or {})
    if architecture in RENORMALISING:
        # Their auxiliary heads only matter in training; and torchvision warns about its slow initialisation.
        given |= {"aux_logits": False, "init_weights": False, "transform_input": transform_input}
    try:
        network: nn.Module = torchvision.models.get_model(
            architecture, weights=None, num_classes=num_classes, **given
        )
    except (TypeError, ValueError) as error:
        raise ModelError(f"{architecture} cannot be built with {given}: {error}") from None
    return network.eval()


def load_weights(network: nn.Module, weights: StateDict) -> nn.Module:
    """Puts `weights` into `network` and returns it.

    Raises:
        ModelError: a tensor is missing, unexpected or has another shape; one line with the first few names.
    """
    own = network.state_dict()
    if reason := misfit_of(weights, own):
        raise ModelError(reason)
    network.load_state_dict({name: weights.get(name, tensor) for name, tensor in own.items()})
    return network


def misfit_of(weights: StateDict, own: StateDict) -> str:
    """Why weights do not fit a network, "" when they do.

    Auxiliary heads, BatchNorm's counters and single numbers beside the weights matter in training only.

    Args:
        weights: tensors by name.
        own: the network's state dict.
    """
    have = {name: tensor.shape for name, tensor in own.items() if not name.endswith(COUNTER)}
    want = {name: tensor.shape for name, tensor in weights.items() if name in have or not _is_beside(name, tensor)}
    wrong = sorted(name for name in have.keys() | want.keys() if have.get(name) != want.get(name))
    if not wrong:
        return _other_type(weights, own)
    shown = ", ".join(f"{name} {_shape(want.get(name))} for {_shape(have.get(name))}" for name in wrong[:3])
    return f"{len(wrong)} tensors do not fit the architecture: {shown}"


def _other_type(weights: StateDict, own: StateDict) -> str:
    """int8 weights, say, mean nothing without their scales."""
    for name, tensor in weights.items():
        if name in own and tensor.is_floating_point() != own[name].is_floating_point():
            return f"{name} is {str(tensor.dtype).removeprefix('torch.')}, not {str(own[name].dtype)[6:]}"
    return ""


def _untagged(architecture: str) -> str:
    """timm's name without the tag, which chooses pretrained weights only."""
    return name_of(architecture).partition(".")[0]


COUNTER = "num_batches_tracked"  # of BatchNorm
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")


def _is_beside(name: str, tensor: torch.Tensor) -> bool:
    return name.startswith(_AUXILIARY) or name.endswith(COUNTER) or tensor.numel() == 1


def _shape(shape: torch.Size | None) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "scalar"


def check_architecture(architecture: str) -> None:
    """Raises ModelError, with a suggestion, unless there is a classification architecture of that name."""
    if is_timm(architecture):
        check_timm_name(_untagged(architecture))
        return
    names = torchvision.models.list_models(module=torchvision.models)
    if architecture not in names:
        near = get_close_matches(architecture, names, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"torchvision has no classification architecture {architecture!r}{hint}")
