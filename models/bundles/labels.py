"""Label files: one label per class, in the order of the model's outputs."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.bundles.text import read_json, read_text
from models.errors import BundleError

Labels = tuple[str, ...]

_FORMS = (
    '["cat", "dog"], {"0": "cat", "1": "dog"}, {"cat": 0, "dog": 1}, {"0": ["n02124075", "Egyptian cat"], …} '
    'or one of these as "id2label", "label2id" or "labels"'
)
_SURROGATE = re.compile("[\ud800-\udfff]")  # half of a character: no JSON can hold it
_LINE_END = re.compile("\r\n|\r|\n")  # not str.splitlines, for which a label may hold line ends
_WRAPPERS = ("id2label", "label2id", "labels")


def load_labels(file: Path) -> Labels:
    """Reads a text file with one label per line, or a JSON file.

    JSON may be a list; an object from class number to label, as `id2label` of Hugging Face's `config.json`, or to
    [identifier, label], as Keras' ImageNet index; or an object from label to class number.

    Raises:
        BundleError: the file is missing, not text, or holds anything but one label per class.
    """
    text = read_text(file, "label file")
    if file.suffix == ".json" or _is_json(text):
        return labels_of(read_json(file, "label file"), str(file))
    lines = [line.strip() for line in _LINE_END.split(text.rstrip())]
    if not any(lines):
        raise BundleError(f"{file}: holds no labels")
    if not all(lines):
        number = lines.index("") + 1
        raise BundleError(f"{file}: line {number} is empty, which would shift the labels behind it by one class")
    return tuple(lines)


def _is_json(text: str) -> bool:
    """Whether a text begins and ends like JSON: a first label may be "[unknown]"."""
    text = text.strip()
    return text[:1] + text[-1:] in ("{}", "[]") and "\n[" not in text.replace("\r", "\n")


def labels_of(document: Any, where: str) -> Labels:
    """The labels in a parsed JSON document.

    Raises:
        BundleError: it is in none of the forms, or its class numbers are not 0, 1, 2 …; begins with `where`.
    """
    if isinstance(document, dict):
        wrapper = next((name for name in _WRAPPERS if isinstance(document.get(name), dict | list)), None)
        if wrapper is not None:
            return labels_of(document[wrapper], f"{where}: {wrapper}")
        return _from_object(document, where)
    if not isinstance(document, list) or not document:
        raise BundleError(f"{where}: expected labels as {_FORMS}")
    return tuple(_label(value, where) for value in document)


def _from_object(document: Mapping[str, Any], where: str) -> Labels:
    if document and all(type(value) is int for value in document.values()):
        pairs = [(number, label) for label, number in document.items()]
    elif document and all(map(_is_number, document)):
        pairs = [(int(name), _label(value, where)) for name, value in document.items()]
    elif document and all(map(_is_number, document.values())):
        pairs = [(int(number), label) for label, number in document.items()]
    else:
        raise BundleError(f"{where}: expected labels as {_FORMS}")
    numbers = sorted(number for number, _ in pairs)
    if numbers != list(range(len(numbers))):
        missing = next((n for n in range(len(numbers)) if n not in numbers), len(numbers))
        raise BundleError(f"{where}: the class numbers must be 0 to {len(numbers) - 1}, {missing} is missing")
    return tuple(label for _, label in sorted(pairs))


def _is_number(value: Any) -> bool:
    return isinstance(value, str) and value.isdecimal() and len(value) < 10


def _label(value: Any, where: str) -> str:
    if isinstance(value, list) and len(value) == 2:
        value = value[1]  # [WordNet identifier, label]
    if isinstance(value, str) and value.strip() and not _SURROGATE.search(value):
        return value
    raise BundleError(f"{where}: the label {json.dumps(value, ensure_ascii=False)} is no text")


def write_labels(file: Path, labels: Labels) -> None:
    """Writes `labels` as the JSON list that `load_labels` reads."""
    file.write_text(json.dumps(list(labels), ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
