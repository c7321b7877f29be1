"""The program and settings that a child loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Recipe:
    """How to make an engine in another process: `target` is imported there and called with `settings`.

    What it returns has `infer(batch) -> rows`, and may have `warm_up()`, `close()` and `facts`;
    `connect(channel)`, which is given a PartChannel; and `report()`, whose result goes with the rows. Or it has
    `serve(socket)`, which takes messages of its own kind until the parent closes the other end.

    Attributes:
        name: of what is loaded, in error messages.
        target: "module:attribute".
        settings: keyword arguments, JSON values.
        preload: modules that a waiting process imports beforehand.
    """

    name: str
    target: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    preload: tuple[str, ...] = ()
