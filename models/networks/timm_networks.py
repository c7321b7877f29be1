"""timm's classifiers, by name and options that JSON can hold. Never downloads, and opens no file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any

from torch import nn

from models.errors import ModelError

PREFIX = "timm/"  # of an architecture's name
LAYER_NORM_EPS = "layer_norm_eps"
# Of timm.create_model: what would read files or the network, or is not for a classifier of RGB images.
_REFUSED = {
    *("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "pretrained_strict", "pretrained_filter_fn"),
    *("pretrained_model_args", "checkpoint_path", "cache_dir", "pruned", "features_only", "out_indices"),
    *("scriptable", "exportable", "no_jit", "num_classes", "in_chans", "device", "dtype", "model_name"),
}


def is_timm(architecture: str) -> bool:
    """Whether the name is one of timm's."""
    return architecture.startswith(PREFIX)


def name_of(architecture: str) -> str:
    """The name as timm has it, with its tag where there is one."""
    return architecture.removeprefix(PREFIX)


def build_timm_network(name: str, num_classes: int, options: Mapping[str, Any] | None = None) -> nn.Module:
    """A randomly initialised network in eval mode: float [N, 3, H, W], normalised -> logits [N, num_classes].

    Args:
        name: timm's, without a tag and without `PREFIX`, e.g. "vit_base_patch16_224".
        num_classes: length of an output row.
        options: keyword arguments of `timm.create_model`; and `LAYER_NORM_EPS`, an object from the beginning of
            modules' names to the epsilon of the layer norms there ("" for all), for which timm wants a function.

    Raises:
        ModelError: timm is not installed, has no such classifier, or an option is none that it takes.
    """
    given = dict(options or {})
    epsilons = given.pop(LAYER_NORM_EPS, {})
    timm = _timm()
    check_timm_name(name)
    if refused := sorted(given.keys() & _REFUSED):
        raise ModelError(f"{PREFIX}{name}: the option {refused[0]!r} is not supported")
    try:
        network: nn.Module = timm.create_model(name, pretrained=False, num_classes=num_classes, **given)
    except Exception as error:  # whatever a constructor makes of options that do not suit it
        reason = str(error).split("\n")[0] or type(error).__name__
        raise ModelError(f"{PREFIX}{name}: timm cannot build it with the options {given}: {reason}") from None
    _set_layer_norms(network, epsilons, name)
    return network.eval()


def check_timm_name(name: str) -> None:
    """Raises ModelError, with a suggestion, unless timm is installed and has that architecture."""
    names = _timm().list_models()
    if name not in names:
        near = get_close_matches(name, names, 1)
        hint = f", did you mean {near[0]!r}?" if near else ""
        raise ModelError(f"timm has no architecture {name!r}{hint}")


def _timm() -> Any:
    try:
        return importlib.import_module("timm")
    except ImportError:
        raise ModelError("timm is not installed, which has this network; pip install timm") from None


def _set_layer_norms(network: nn.Module, epsilons: Any, name: str) -> None:
    if not isinstance(epsilons, Mapping) or not all(isinstance(value, int | float) for value in epsilons.values()):
        raise ModelError(f"{PREFIX}{name}: {LAYER_NORM_EPS} {epsilons!r} must be an object of names and numbers")
    for prefix, epsilon in epsilons.items():
        for path, module in network.named_modules():
            if isinstance(module, nn.LayerNorm) and path.startswith(prefix):
                module.eps = float(epsilon)
