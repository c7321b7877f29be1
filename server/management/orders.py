"""JSON bodies of the management -> what is to be done to the set of models."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

from models.archives.config import ArchiveConfig
from models.archives.open import describe
from models.errors import ModelError
from runtime.added_model import ARCHIVE, AddedModel, GoldenAsked
from runtime.archive_settings import ArchiveWishes, settled
from runtime.errors import ModelRefused
from runtime.folder import StoreFolder
from runtime.model_set import Shadow
from runtime.record import RecordError, check_names, read_record
from server.http.faults import BadRequest

_IN_ADDRESS = ("name", "version")
_SETTINGS = tuple(each.name for each in dataclasses.fields(AddedModel) if each.name not in _IN_ADDRESS)


class Addition(NamedTuple):
    """A model that is to be added.

    Attributes:
        model: of an archive without the settings of its YAML file.
        is_default: it becomes the default version.
        wishes: of an archive: how it is to be run.
    """

    model: AddedModel
    is_default: bool
    wishes: ArchiveWishes


def read_addition(body: bytes, name: str, version: str) -> Addition:
    """The model that is to be added. Raises BadRequest."""
    document = _object(body, ("default", *_SETTINGS))
    default, golden, archive = (
        document.pop("default", False),
        document.pop("golden", None),
        document.pop("archive", None),
    )
    if not isinstance(default, bool):
        raise BadRequest("default must be true or false.")
    try:
        rules = None if golden is None else read_record(GoldenAsked, golden, "golden")
        wishes = ArchiveWishes() if archive is None else read_record(ArchiveWishes, archive, "archive")
        asked = (
            settled(wishes, ArchiveConfig(), 1) if archive is not None or document.get("kind") == ARCHIVE else None
        )
        known = {"name": name, "version": version, "golden": rules, "archive": asked}
        return Addition(read_record(AddedModel, document, "body", **known), default, wishes)
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


def as_it_says(model: AddedModel, wishes: ArchiveWishes, folder: StoreFolder) -> AddedModel:
    """An archive with its own settings. Raises ModelRefused, UnknownModel, BadRequest."""
    try:
        config = describe(folder.resolve(model.path), folder.inside).config
    except ModelError as error:
        raise ModelRefused(str(error)) from None
    try:
        return dataclasses.replace(model, archive=settled(wishes, config, 1))
    except RecordError as error:
        raise BadRequest(f"{error}.") from None
