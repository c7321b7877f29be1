"""timm's architectures, as "timm/NAME" or "timm/NAME.TAG". timm is imported when one is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import ModuleType
from typing import Any

from torch import nn

from models.errors import ModelError

_PREFIX = "timm/"


def is_timm(architecture: str) -> bool:
    """Whether the name is one of timm's."""
    return architecture.startswith(_PREFIX)


def name_of(architecture: str) -> str:
    """The name as timm has it."""
    return architecture.removeprefix(_PREFIX)


def import_timm(architecture: str) -> ModuleType:
    """Raises ModelError, which names the extra, where timm is not installed."""
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            f"{architecture} needs the package timm ({error}): pip install 'snapserve[timm]'"
        ) from None
    module: ModuleType = timm
    return module


def check(architecture: str) -> None:
    """Raises ModelError, with a suggestion, unless timm has an architecture of that name."""
    timm, name = import_timm(architecture), name_of(architecture)
    base = name.partition(".")[0]
    if not timm.is_model(base):
        near = get_close_matches(base, timm.list_models(), 1)
        hint = f", did you mean {_PREFIX + near[0]!r}?" if near else ""
        raise ModelError(f"timm has no architecture {name!r}{hint}")


def build(architecture: str, num_classes: int, options: Mapping[str, Any]) -> nn.Module:
    """A randomly initialised network in eval mode. Raises ModelError where timm refuses the options."""
    timm, name = import_timm(architecture), name_of(architecture)
    try:
        # Without its tag, which only chooses pretrained weights.
        network: nn.Module = timm.create_model(name.partition(".")[0], num_classes=num_classes, **options)
    except (TypeError, ValueError, RuntimeError, AssertionError) as error:
        raise ModelError(f"{architecture} cannot be built with {dict(options)}: {error}") from None
    return network.eval()
