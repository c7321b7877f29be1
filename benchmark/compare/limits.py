"""What bounds every contestant: decode and engine in the same processes, without HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from typing import Any

from benchmark.limit import Limit, usual_settings
from models.machine.resources import usable_cores

LIMIT = "limit"  # its name among the contestants

Row = dict[str, Any]


def start_limits(
    stack: ExitStack, bundle: Path, pictures: Sequence[Path], names: Sequence[str]
) -> dict[str, Limit]:
    """The bundle's own engine without HTTP, with its best batch size, in the settings that are usual."""
    if names and LIMIT not in names:
        return {}
    limits = [
        stack.enter_context(Limit(bundle, setting=each, pictures=pictures))
        for each in usual_settings(usable_cores())
    ]
    for limit in limits:
        limit.tune()
    return {f"{LIMIT} {limit.setting}": limit for limit in limits}


def best_limit(limits: Mapping[str, Limit], rounds: Mapping[str, Sequence[float]]) -> Row | None:
    """The setting whose median is highest."""
    if not limits:
        return None
    name = max(limits, key=lambda each: median(rounds[each]))
    setting, size = str(limits[name].setting), limits[name].batch_size
    return {
        "setting": setting,
        "batch_size": size,
        "images_per_s_rounds": [round(rate, 2) for rate in rounds[name]],
    }
