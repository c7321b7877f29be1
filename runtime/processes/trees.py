"""Nested values as JSON that says how they are nested, and the arrays and bytes in them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

BYTES_LIKE = (bytes, bytearray, memoryview)
_LEAF, _TUPLE, _DICT = "leaf", "tuple", "dict"


def flatten(item: Any, leaves: list[Any]) -> Any:
    """Returns the JSON part of a value, and appends its arrays and bytes to `leaves`.

    An object of that JSON has one key: "leaf", "tuple" or "dict"; what is no object stands for itself.

    Raises:
        TypeError: a dict has other keys than text.
    """
    if isinstance(item, (np.ndarray, np.generic, *BYTES_LIKE)):
        leaves.append(item)
        return {_LEAF: int(isinstance(item, np.ndarray))}
    if isinstance(item, list):
        return [flatten(each, leaves) for each in item]
    if isinstance(item, tuple):
        return {_TUPLE: [flatten(each, leaves) for each in item]}
    if isinstance(item, dict):
        if not all(isinstance(key, str) for key in item):
            raise TypeError("a dict that is shared has text for keys")
        return {_DICT: {key: flatten(each, leaves) for key, each in item.items()}}
    return item


def restore(form: Any, leaves: Iterator[Any]) -> Any:
    """The value that was flattened.

    Raises:
        ValueError, TypeError, RecursionError: the form is none that `flatten` makes.
    """
    if isinstance(form, list):
        return [restore(each, leaves) for each in form]
    if not isinstance(form, dict):
        return form
    ((kind, inner),) = form.items()
    if kind == _TUPLE:
        return tuple([restore(each, leaves) for each in inner])
    if kind == _DICT:
        return {key: restore(each, leaves) for key, each in inner.items()}
    if kind == _LEAF:
        leaf = next(leaves, None)
        if leaf is None:
            raise ValueError("fewer leaves than announced")
        return np.asarray(leaf) if inner else leaf
    raise ValueError("no form of a value")
