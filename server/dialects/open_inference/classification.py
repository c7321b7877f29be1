"""The classification extension: the best classes of an output as text."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from models.bundles.labels import Labels
from server.dialects.open_inference.datatypes import BF16
from server.dialects.open_inference.tensors import Tensor, tensor_of
from server.http.faults import BadRequest


def best_of(tensor: Tensor, classes: int, labels: Labels | None) -> Tensor:
    """The classes with the highest values, best first, as BYTES "value:index" or "value:index:label".

    Args:
        tensor: [n, …] of values, or [classes] of one.
        classes: how many; 0: the values themselves.
        labels: of the classes.

    Returns:
        BYTES [n, classes], or [classes].

    Raises:
        BadRequest: it holds no numbers.
    """
    if not classes:
        return tensor
    values = tensor.values
    if not isinstance(values, np.ndarray) or tensor.datatype == BF16 or not values.ndim:
        raise BadRequest(f"output '{tensor.name}': there is no classification of {tensor.datatype}")
    is_batch = values.ndim > 1
    rows = values.reshape(len(values), math.prod(values.shape[1:])) if is_batch else values[np.newaxis]
    texts = [text for row in rows for text in _best(row, classes, labels)]
    most = min(classes, rows.shape[1])
    return tensor_of(tensor.name, texts, (len(values), most) if is_batch else (most,))


def _best(row: NDArray[np.generic], classes: int, labels: Labels | None) -> list[str]:
    order = np.argsort(-row.astype(np.float64), kind="stable")[:classes].tolist()  # equal values by index
    names = labels if labels is not None and len(labels) == len(row) else None
    return [f"{row[place]!s}:{place}" + (f":{names[place]}" if names else "") for place in order]
