"""What an address of the inference API means."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto
from typing import NamedTuple
from urllib.parse import unquote


class Place(Enum):
    """What is at an address."""

    ROOT = auto()
    PING = auto()
    DESCRIPTION = auto()
    METRICS = auto()
    PREDICT = auto()
    INVOCATIONS = auto()
    WORKFLOW = auto()
    SERVER = auto()
    LIVE = auto()
    READY = auto()
    VERSIONED = auto()
    NOTHING = auto()


PREDICTIONS = (Place.PREDICT, Place.INVOCATIONS)


class Route(NamedTuple):
    """Where a request goes.

    Attributes:
        place: that its address means.
        model: that it names; "" for none.
        version: of it; None for the default one.
        rest: of the path behind them, for the handler; None where a handler is not told.
        explains: whether an explanation is asked for.
    """

    place: Place
    model: str = ""
    version: str | None = None
    rest: str | None = None
    explains: bool = False

    @property
    def takes_query(self) -> bool:
        """Whether parameters of the query are fields for the handler."""
        return self.rest is None


_NOTHING = Route(Place.NOTHING)
_FIXED = {
    "": Place.ROOT,
    "ping": Place.PING,
    "api-description": Place.DESCRIPTION,
    "invocations": Place.INVOCATIONS,
    "metrics": Place.METRICS,
}
_PROTOCOL = {(): Place.SERVER, ("health", "live"): Place.LIVE, ("health", "ready"): Place.READY}
_VERBS = {"predict": False, "infer": False, "explain": True}


def route_of(raw_path: str) -> Route:
    """The route of a path, which is decoded before it is split; slashes at its end do not count."""
    path = unquote(raw_path, errors="replace") if "%" in raw_path else raw_path
    first, *rest = path.rstrip("/")[1:].split("/")
    if first == "" and rest:  # of "//ping"
        return _NOTHING
    if first in ("predictions", "explanations") and rest:
        return _versioned(rest, first == "explanations")
    if first in _FIXED:
        return Route(_FIXED[first])
    if first == "models":
        return Route(Place.PREDICT, rest[0]) if rest[1:] == ["invoke"] else _NOTHING
    if first in ("v1", "v2"):
        return _v1(rest) if first == "v1" else _v2(rest)
    if first == "wfpredict" and rest:
        return Route(Place.WORKFLOW, rest[0])
    if rest and rest[-1] == "predict" and len(rest) <= 2:
        return Route(Place.PREDICT, first, rest[0] if len(rest) == 2 else None)
    return _NOTHING


def _versioned(parts: Sequence[str], explains: bool) -> Route:
    model, version, *rest = (*parts, "") if len(parts) == 1 else parts
    return Route(Place.PREDICT, model, version or None, "/".join(rest), explains)


def _v1(parts: Sequence[str]) -> Route:
    """KServe's first protocol: v1/models/NAME:predict."""
    if len(parts) == 2 and parts[0] == "models":
        model, _, verb = parts[1].rpartition(":")
        if verb in ("predict", "explain"):
            return Route(Place.PREDICT, model, rest="", explains=_VERBS[verb])
    return _NOTHING


def _v2(parts: Sequence[str]) -> Route:
    """Its second: v2/models/NAME/infer, and what TorchServe has of the Open Inference Protocol."""
    if tuple(parts) in _PROTOCOL:
        return Route(_PROTOCOL[tuple(parts)])
    if len(parts) == 3 and parts[0] == "models" and parts[2] in ("infer", "explain"):
        return Route(Place.PREDICT, parts[1], rest="", explains=_VERBS[parts[2]])
    return Route(Place.VERSIONED) if len(parts) > 3 and "versions" in parts else _NOTHING
