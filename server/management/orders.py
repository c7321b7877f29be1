"""JSON bodies of the management -> what is to be done to the set of models."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from runtime.model_set import AddedModel, GoldenAsked, Shadow
from runtime.record import RecordError, check_names, read_record
from server.http.faults import BadRequest

_IN_ADDRESS = ("name", "version")
_SETTINGS = tuple(each.name for each in dataclasses.fields(AddedModel) if each.name not in _IN_ADDRESS)


def read_addition(body: bytes, name: str, version: str) -> tuple[AddedModel, bool]:
    """The model that is to be added, and whether it becomes the default version. Raises BadRequest."""
    document = _object(body, ("default", *_SETTINGS))
    default, golden = document.pop("default", False), document.pop("golden", None)
    if not isinstance(default, bool):
        raise BadRequest("default must be true or false.")
    try:
        rules = None if golden is None else read_record(GoldenAsked, golden, "golden")
        return read_record(AddedModel, document, "body", name=name, version=version, golden=rules), default
    except RecordError as error:
        raise BadRequest(f"{error}.") from None


def read_shadow(body: bytes) -> Shadow:
    """The shadow that is to begin. Raises BadRequest."""
    try:
        return read_record(Shadow, _object(body, ("version", "share")), "body")
    except RecordError as error:
        raise BadRequest(f"{error}.") from None


def read_processes(body: bytes) -> int:
    """The number of processes that an engine is to have. Raises BadRequest."""
    processes = _object(body, ("processes",)).get("processes")
    if type(processes) is not int:
        raise BadRequest("processes must be a whole number.")
    return processes


def _object(body: bytes, names: tuple[str, ...]) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not valid JSON.") from None
    try:
        check_names(document, names, "body")
    except RecordError as error:
        raise BadRequest(f"{error}.") from None
    return dict(document)
