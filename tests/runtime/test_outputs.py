"""The best classes of a row."""

from __future__ import annotations

import numpy as np
import pytest

from runtime.outputs import Prediction, Scores


@pytest.mark.parametrize("classes", [1, 2, 10, 64, 65, 1000])
@pytest.mark.parametrize("levels", [2, 5, 1_000_000])
def test_the_best_come_first_and_equal_ones_by_index(classes, levels):
    choose = np.random.default_rng(classes * levels)
    labels = tuple(f"label {index}" for index in range(classes))
    for top_k in sorted({1, min(5, classes), classes}):
        scores = (choose.integers(0, levels, classes) / levels).astype(np.float32)
        order = np.argsort(-scores, kind="stable")[:top_k].tolist()
        assert Scores(scores, labels).top(top_k) == [Prediction(labels[n], float(scores[n]), n) for n in order]


def test_what_scores_less_than_asked_is_left_out():
    scores = Scores(np.array([0.1, 0.5, 0.4], np.float32), ("a", "b", "c"))
    assert [each.label for each in scores.top(3, 0.4)] == ["b", "c"]
    assert scores.top(3, 0.9) == []
