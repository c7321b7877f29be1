"""Whether labels stand in the order of the model's outputs, as far as labelled photos tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from models.optimize.errors import UsageError

_FAR_BETTER = 0.2  # of the photos more are right
_NO_CHANCE = 10  # photos more, at least


def check_label_order(answers: NDArray[np.int64], shown: NDArray[np.int64], labels: Sequence[str]) -> None:
    """Compares the order of the labels with the best other one.

    The other order is learnt on one half of the photos and tried on the other, so that it is not the chance of few
    photos per class.

    Args:
        answers: int64 [N], the model's best class for each photo.
        shown: int64 [N], the class of the folder that a photo is in; -1 where none is known.
        labels: one per class.

    Raises:
        UsageError: another order is far better.
    """
    known = shown >= 0
    pairs = list(zip(answers[known].tolist(), shown[known].tolist(), strict=True))
    halves = pairs[::2], pairs[1::2]
    learnt = [_best_order(half) for half in halves]
    as_it_is = sum(answer == label for answer, label in pairs)
    otherwise = sum(
        order.get(answer) == label
        for order, half in zip(learnt, reversed(halves), strict=True)
        for answer, label in half
    )
    if otherwise - as_it_is <= max(_FAR_BETTER * len(pairs), _NO_CHANCE):
        return
    others = otherwise / len(pairs)
    raise UsageError(
        f"the labels are not in the order of the model's outputs: as they are {as_it_is / len(pairs):.1%} of "
        f"{len(pairs)} photos are right, in another order {others:.1%}; {_examples(pairs, labels)}. "
        "Put --labels into the order of the model's classes"
    )


def _best_order(pairs: Sequence[tuple[int, int]]) -> Mapping[int, int]:
    """Output -> class, each class once: the most frequent pairs first."""
    order: dict[int, int] = {}
    taken: set[int] = set()
    for (answer, label), _ in Counter(pairs).most_common():
        if answer not in order and label not in taken:
            order[answer] = label
            taken.add(label)
    return order


def _examples(pairs: Sequence[tuple[int, int]], labels: Sequence[str]) -> str:
    wrong = Counter(pair for pair in pairs if pair[0] != pair[1]).most_common(2)
    return ", ".join(
        f"photos of {labels[shown]!r} are answered {labels[answer]!r}" for (answer, shown), _ in wrong
    )
