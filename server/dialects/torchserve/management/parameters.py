"""Parameters of the management API: of the query, or of a JSON body."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runtime.archive_settings import ArchiveWishes
from server.dialects.torchserve.management.words import bad_request
from server.dialects.torchserve.replies import refusal
from server.torchserve.registration import Registration

_NUMBER = re.compile(r"[+-]?\d{1,9}", re.ASCII)
_RUNTIMES = ("PYTHON", "PYTHON3", "LSP")
_TEXTS = ("url", "model_name", "handler", "runtime")
_WISHES = {
    "batch_size": "batch_size",
    "max_batch_delay": "max_batch_delay_ms",
    "response_timeout": "response_timeout_s",
    "startup_timeout": "startup_timeout_s",
}
_NUMBERS = (*_WISHES, "initial_workers")
_MOST_LISTED = 100

Parameters = Mapping[str, str]


@dataclass(frozen=True)
class Addition:
    """An archive that is to be registered.

    Attributes:
        url: where it is.
        said: of it.
        is_synchronous: the response waits for its workers.
    """

    url: str
    said: Registration
    is_synchronous: bool


def read_addition(given: Parameters) -> Addition:
    """What POST /models asks for. Raises Refusal."""
    if "url" not in given:
        raise bad_request("Parameter url is required.")
    runtime = given.get("runtime") or _RUNTIMES[0]
    if runtime.upper() not in _RUNTIMES:
        raise bad_request(f"Invalid RuntimeType value: {runtime[:80]}")
    workers = number(given, "initial_workers")
    numbers = {field: value for name, field in _WISHES.items() if (value := number(given, name)) is not None}
    if workers is not None:
        numbers["min_workers"] = max(0, workers)
    said = Registration(given.get("model_name", ""), ArchiveWishes(given.get("handler", ""), **numbers))  # type: ignore[arg-type]
    return Addition(given["url"], said, given.get("synchronous", "true").lower() == "true")


def read_json(body: bytes) -> Parameters:
    """The parameters in a JSON body; what is null is not there. Raises Refusal."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise bad_request("The body is not valid JSON.") from None
    if not isinstance(document, dict):
        raise bad_request("The body must be a JSON object.")
    for name, value in document.items():
        if value is not None and not _fits(name, value):
            raise bad_request(f"{name[:80]} has a wrong type.")
    return {name: _text(value) for name, value in document.items() if value is not None}


def _fits(name: str, value: Any) -> bool:
    """Numbers may be texts of digits, as in Java's reader."""
    if name in _NUMBERS:
        return type(value) is int or (isinstance(value, str) and _NUMBER.fullmatch(value) is not None)
    return name not in _TEXTS or isinstance(value, str)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def number(given: Parameters, name: str, least: int | None = None) -> int | None:
    """A whole number; None where there is none, or it is less than `least`."""
    text = given.get(name, "")
    value = int(text) if _NUMBER.fullmatch(text) else None
    return None if value is None or (least is not None and value < least) else value


def workers(given: Parameters) -> tuple[int, int]:
    """The numbers of workers that PUT /models/MODEL asks for: least and most. Raises Refusal."""
    least = number(given, "min_worker")
    least = 1 if least is None else least
    most = number(given, "max_worker")
    most = least if most is None else most
    if most < least:
        raise bad_request("max_worker cannot be less than min_worker.")
    if least < 0:  # the status that scripts expect of TorchServe
        raise refusal(500, "bad-request", "InternalServerException", "min_worker cannot be less than 0.")
    return least, most


def page(given: Parameters) -> tuple[int, int]:
    """The first entry and the number of entries of a page."""
    limit, first = number(given, "limit", least=0), number(given, "next_page_token", least=0)
    return first or 0, _MOST_LISTED if limit is None else min(limit, _MOST_LISTED)
