"""Preprocessing by name or from a file, for models that do not bring their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.bundles.paths import is_file
from models.bundles.spec import IMAGENET, PreprocessSpec, spec_from_json
from models.bundles.text import read_json
from models.errors import BundleError
from models.images.preprocess_files import is_library_file, library_preprocess

_ZERO, _HALF, _ONE, _LEVEL = ((value,) * 3 for value in (0.0, 0.5, 1.0, 1 / 255))

# All of ImageNet's usual geometry; what the network gets differs.
PRESETS = {
    "imagenet": IMAGENET,
    "half": dataclasses.replace(IMAGENET, mean=_HALF, std=_HALF),  # -1 to 1
    "none": dataclasses.replace(IMAGENET, mean=_ZERO, std=_ONE),  # 0 to 1
    "raw": dataclasses.replace(IMAGENET, mean=_ZERO, std=_LEVEL),  # 0 to 255
}
_PRESET = "preset"


def read_preprocess(choice: str) -> PreprocessSpec:
    """Returns the preset of that name, else reads a JSON file as `preprocess_of` takes it.

    Raises:
        BundleError: neither a preset nor a readable file, or a field is missing or wrong.
    """
    if choice in PRESETS:
        return PRESETS[choice]
    if not is_file(choice):
        raise BundleError(f"--preprocess {choice}: no such file, nor one of {', '.join(PRESETS)}")
    return preprocess_of(read_json(Path(choice), "preprocess file"), choice)


def preprocess_of(document: Any, where: str) -> PreprocessSpec:
    """The preprocessing in parsed JSON: a preset's name, or an object.

    An object has the fields of PreprocessSpec; one with "preset" needs only those that differ from the preset. Or
    it is a configuration file of timm or Hugging Face.

    Raises:
        BundleError: a field is missing, unknown or wrong; begins with `where`.
    """
    if isinstance(document, str):
        document = {_PRESET: document}
    if isinstance(document, dict) and is_library_file(document):
        return library_preprocess(document, where)
    if isinstance(document, dict):
        fields = [field.name for field in dataclasses.fields(PreprocessSpec)]
        unknown = sorted(document.keys() - {*fields, _PRESET})
        if unknown:
            raise BundleError(f"{where}: unknown field {unknown[0]!r}; there are {', '.join([_PRESET, *fields])}")
        document = {**_base(document, where), **{name: document[name] for name in fields if name in document}}
    return spec_from_json(PreprocessSpec, document, where)


def _base(document: Mapping[str, Any], where: str) -> dict[str, Any]:
    if _PRESET not in document:
        return {}
    name = document[_PRESET]
    if not isinstance(name, str) or name not in PRESETS:
        raise BundleError(f"{where}: preset {name!r} must be one of {', '.join(PRESETS)}")
    preset = dataclasses.asdict(PRESETS[name])
    return {**preset, "mean": list(preset["mean"]), "std": list(preset["std"])}
