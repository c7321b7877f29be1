"""What the answer to a picture has to be, and what is wrong with one that is not that."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

Predictions = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Rules:
    """How an answer is compared.

    Attributes:
        labels: of the model, by index.
        top_k: predictions that an answer has.
        tolerance: the most by which a score may differ.
        gap: two labels whose known scores differ by more have to come in that order.
    """

    labels: tuple[str, ...]
    top_k: int = 5
    tolerance: float = 5e-3
    gap: float = 1e-2


@dataclass(frozen=True)
class Question:
    """A picture and its known scores, one per class."""

    name: str
    picture: bytes
    scores: tuple[float, ...]

    @cached_property
    def ranked(self) -> list[int]:
        """Classes, best first."""
        return sorted(range(len(self.scores)), key=lambda index: -self.scores[index])

    def predictions(self, rules: Rules) -> list[dict[str, Any]]:
        """The exact answer."""
        return [
            {"label": rules.labels[index], "score": self.scores[index], "index": index}
            for index in self.ranked[: rules.top_k]
        ]

    def fault(self, predictions: Predictions, rules: Rules) -> str:
        """What is wrong with `predictions`, or ""."""
        scores = self.scores
        given: list[int] = []
        for place, each in enumerate(predictions):
            index, score = each["index"], each["score"]
            if rules.labels[index] != each["label"]:
                return f"label {each['label']!r} at index {index}, which is {rules.labels[index]!r}"
            if not abs(score - scores[index]) <= rules.tolerance:
                return f"{each['label']!r} scores {score:.4f}, known is {scores[index]:.4f}"
            if place and (
                score > predictions[place - 1]["score"] or scores[index] - scores[given[-1]] > rules.gap
            ):
                return f"{each['label']!r} comes after {rules.labels[given[-1]]!r}"
            given.append(index)
        if len(set(given)) != min(rules.top_k, len(scores)):
            return f"{len(set(given))} different labels"
        missing = next((index for index in self.ranked if index not in given), None)
        if missing is not None and scores[missing] > scores[given[-1]] + rules.gap:
            return f"{rules.labels[missing]!r} is missing, which scores {scores[missing]:.4f}"
        return ""

    def fault_of_body(self, body: bytes, request_id: str, rules: Rules) -> str:
        """What is wrong with the JSON that was answered to the request of that id, or ""."""
        try:
            document = json.loads(body)
            if document["request_id"] != request_id:
                return f"the body's request_id is {document['request_id']!r}, not {request_id!r}"
            return self.fault(document["predictions"], rules)
        except (ValueError, LookupError, TypeError) as error:
            return f"not an answer ({type(error).__name__}): {body[:100]!r}"
