"""Labels in another order than the model's outputs are seen on labelled photos, and chance is not taken for it."""

from __future__ import annotations

import numpy as np
import pytest

from models.optimize.errors import UsageError
from models.optimize.label_order import check_label_order

CHOOSE = np.random.default_rng(5)


def photos(classes, each, right, order=None):
    """Answers to `each` photos per class, of which a share is right, and the classes that are shown."""
    shown = CHOOSE.permutation(np.repeat(np.arange(classes), each))
    guesses = CHOOSE.integers(0, classes, len(shown))
    answers = np.where(CHOOSE.random(len(shown)) < right, shown, guesses)
    return (answers if order is None else order[answers]), shown


def names(classes):
    return tuple(f"label {number}" for number in range(classes))


def shifted(classes):
    return np.roll(np.arange(classes), 1)


@pytest.mark.parametrize(
    ("classes", "each", "right"), [(10, 40, 0.63), (10, 20, 0.95), (3, 20, 0.8), (200, 10, 0.8)]
)
@pytest.mark.parametrize("other", [shifted, CHOOSE.permutation, lambda classes: np.arange(classes)[::-1]])
def test_another_order_that_is_far_better_is_refused(classes, each, right, other):
    answers, shown = photos(classes, each, right, other(classes))
    with pytest.raises(UsageError, match="not in the order of the model's outputs") as caught:
        check_label_order(answers, shown, names(classes))
    assert "photos of 'label " in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("classes", "each", "right"),
    [
        (10, 40, 0.63),
        (10, 40, 0.2),
        (10, 2, 0.5),
        (1000, 1, 0.6),
        (1000, 1, 0.05),
        (430, 1, 0.88),
        (2, 100, 0.6),
        (5, 3, 0),
    ],
)
def test_the_right_order_passes_however_good_the_model_is(classes, each, right):
    for _ in range(20):
        check_label_order(*photos(classes, each, right), names(classes))


def test_two_labels_that_are_confused_are_no_other_order():
    answers, shown = photos(10, 40, 0.9)
    answers = np.where(answers == 3, 5, answers)
    check_label_order(answers, shown, names(10))


def test_photos_without_a_label_do_not_count():
    check_label_order(np.array([0, 1, 2]), np.array([-1, -1, -1]), names(3))
    check_label_order(np.array([], int), np.array([], int), names(3))
