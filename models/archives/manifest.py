"""`MAR-INF/MANIFEST.json`: read and compared with what is there."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from models.archives.archive import FOLDER, MANIFEST, Manifest
from models.archives.members import shown
from models.errors import ArchiveError, NoManifest

PATH = f"{FOLDER}/{MANIFEST}"
_DEFAULT_VERSION = "1.0"
_LONGEST = 1024  # characters of a value
_FILES = ("serializedFile", "modelFile", "requirementsFile", "configFile")


def read_manifest(content: bytes, paths: Collection[str]) -> Manifest:
    """What a manifest says.

    Args:
        content: of its file.
        paths: of the files in the archive.

    Raises:
        NoManifest: it names no model.
        ArchiveError: it is no JSON, of other types, or names a file that is not there; the message begins behind
            the archive's name.
    """
    document = _parsed(content)
    model = document.get("model")
    if not isinstance(model, dict) or not model.get("modelName"):
        raise NoManifest(f"{MANIFEST} names no model")
    files = {name: _text(model, name) for name in _FILES}
    for name, path in files.items():
        if path and path not in paths:
            raise ArchiveError(f"{MANIFEST} names {shown(path)} as {name}, which is not there")
    return Manifest(
        name=_text(model, "modelName"),
        version=_text(model, "modelVersion") or _DEFAULT_VERSION,
        handler=_text(model, "handler"),
        serialized_file=files["serializedFile"],
        model_file=files["modelFile"],
        requirements_file=files["requirementsFile"],
        config_file=files["configFile"],
        runtime=_text(document, "runtime") or "python",
        document=document,
    )


def _parsed(content: bytes) -> Mapping[str, Any]:
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        raise ArchiveError(f"{MANIFEST} is not valid JSON") from None
    if not isinstance(document, dict):
        raise ArchiveError(f"{MANIFEST} must be an object")
    return document


def _text(document: Mapping[str, Any], name: str) -> str:
    """A value that is text, or not there. A version is also written as a number."""
    value = document.get(name)
    if value is None:
        return ""
    if name == "modelVersion" and type(value) in (int, float):
        value = str(value)
    if not isinstance(value, str) or len(value) > _LONGEST or not value.isprintable():
        raise ArchiveError(f"{MANIFEST}: {name} must be text of at most {_LONGEST:,} characters")
    return value
