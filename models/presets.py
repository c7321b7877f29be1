"""Preprocessing by name or from a file, for models that do not bring their own."""

from __future__ import annotations

import json
from pathlib import Path

from models.errors import BundleError
from models.spec import IMAGENET, PreprocessSpec, spec_from_json

PRESETS = {"imagenet": IMAGENET}


def read_preprocess(choice: str) -> PreprocessSpec:
    """Returns the preset of that name, else reads a JSON file with the fields of PreprocessSpec.

    Raises:
        BundleError: neither a preset nor a readable file, or a field is missing or wrong.
    """
    if choice in PRESETS:
        return PRESETS[choice]
    try:
        document = json.loads(Path(choice).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{choice}: not a readable preprocess file, nor {' or '.join(PRESETS)}") from None
    except ValueError:
        raise BundleError(f"{choice}: not valid JSON") from None
    return spec_from_json(PreprocessSpec, document, choice)
