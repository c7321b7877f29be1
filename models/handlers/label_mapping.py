"""index_to_name.json: from the index of a class to its name."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Mapped = dict[str, Any]


def load_label_mapping(mapping_file_path: str, use_pathlib: bool = False) -> Mapped | None:
    """Reads a mapping: index as text -> name, or -> a list whose last item is the name.

    Args:
        mapping_file_path: of the file.
        use_pathlib: has no effect.

    Returns:
        The mapping; None where there is no such file.

    Raises:
        ValueError: it is no mapping.
    """
    path = Path(mapping_file_path)
    if not path.is_file():
        return None
    mapping = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(mapping, dict):
        raise ValueError(f"{path.name} must hold an object: index -> name")
    mapping = mapping.get("object_type_names", mapping)
    for key, value in mapping.items():
        if isinstance(value, list):
            mapping[key] = value[-1]
        elif not isinstance(value, str):
            raise ValueError(f"{path.name}: the name of {key} must be a text or a list of texts")
    return dict(mapping)


def map_class_to_label(
    probs: Sequence[Sequence[float]],
    mapping: Mapping[str, Any] | None = None,
    lbl_classes: Sequence[Sequence[Any]] | None = None,
) -> list[dict[str, float]]:
    """Of each row a dict of names and probabilities.

    Args:
        probs: probabilities of each row.
        mapping: index as text -> name; None: the index is the name.
        lbl_classes: indices that the probabilities belong to; None: 0, 1, 2, ...
    """
    rows = []
    for row, probabilities in enumerate(probs):
        classes = range(len(probabilities)) if lbl_classes is None else lbl_classes[row]
        names = [_name(each, mapping) for each in classes]
        rows.append(dict(zip(names, probabilities, strict=False)))
    return rows


def _name(index: Any, mapping: Mapping[str, Any] | None) -> str:
    return str(index) if mapping is None else str(mapping[str(index)])
