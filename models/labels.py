"""Label files: one label per class, in the order of the model's outputs."""

from __future__ import annotations

import json
from pathlib import Path

from models.errors import BundleError

Labels = tuple[str, ...]


def load_labels(file: Path) -> Labels:
    """Reads a JSON list of strings, or a text file with one label per line.

    Raises:
        BundleError: the file is missing, not text, or holds anything but labels.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise BundleError(f"{file}: not a readable label file") from None
    if file.suffix == ".json":
        return _from_json(file, text)
    labels = tuple(line.strip() for line in text.splitlines() if line.strip())
    if not labels:
        raise BundleError(f"{file}: holds no labels")
    return labels


def _from_json(file: Path, text: str) -> Labels:
    try:
        labels = json.loads(text)
    except ValueError:
        raise BundleError(f"{file}: not valid JSON") from None
    if not isinstance(labels, list) or not labels or not all(isinstance(label, str) for label in labels):
        raise BundleError(f"{file}: expected a list of strings")
    return tuple(labels)


def write_labels(file: Path, labels: Labels) -> None:
    """Writes `labels` as the JSON list that `load_labels` reads."""
    file.write_text(json.dumps(list(labels), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
