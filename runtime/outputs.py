"""What a client gets back, independent of any protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from models.bundles.labels import Labels
from models.engines.base import Probabilities
from runtime.values import Nested, Tensors

_FEW_CLASSES = 64  # up to here it is faster to sort them all


@dataclass(slots=True)
class Prediction:
    """One label of an image.

    Attributes:
        label: the class's name.
        score: its probability, 0 … 1.
        index: its position in the model's output.
    """

    label: str
    score: float
    index: int

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {"label": self.label, "score": self.score, "index": self.index}


class Scores(NamedTuple):
    """The scores of all classes for one image.

    Attributes:
        values: float32 [num_classes].
        labels: names of the classes.
    """

    values: Probabilities
    labels: Labels

    def top(self, k: int, min_score: float = 0.0) -> list[Prediction]:
        """The `k` classes with the highest scores of at least `min_score`, best first; equal scores by index."""
        values, indices = self.values, range(len(self.values))
        k = min(k, len(values))  # another version may have fewer classes than the one that was asked
        chosen: Sequence[int] = indices
        if len(indices) > _FEW_CLASSES:  # sort only those that can be among the best
            candidates = np.flatnonzero(values >= np.partition(values, -k)[-k])
            values, chosen = values[candidates], candidates.tolist()
        scores = values.tolist()
        # Python's sort keeps the order of equal elements, also in reverse.
        order = sorted(range(len(scores)), key=scores.__getitem__, reverse=True)[:k]
        best = [Prediction(self.labels[chosen[place]], scores[place], chosen[place]) for place in order]
        return [each for each in best if each.score >= min_score] if min_score else best


class Value(NamedTuple):
    """What a call returned.

    Attributes:
        tree: its arrays are contiguous, and owned by the caller.
    """

    tree: Nested


class Reply(NamedTuple):
    """A response that a handler made.

    Attributes:
        body: its bytes.
        content_type: of them; "" for none.
        status: HTTP status.
        reason: phrase behind the status; None for the usual one.
        headers: further ones.
    """

    body: bytes
    content_type: str = ""
    status: int = 200
    reason: str | None = None
    headers: tuple[tuple[str, str], ...] = ()


# A union that grows with the dialects.
Output = Scores | Value | Tensors | Reply
