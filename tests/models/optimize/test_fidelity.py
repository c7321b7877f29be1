import numpy as np
import pytest

from models.optimize.errors import FidelityError
from models.optimize.evidence import accuracy
from models.optimize.fidelity import LIMITS, PUBLISHED, Fidelity, compare


def scores(*rows):
    return np.array(rows, np.float32)


def test_agreement_counts_only_images_with_a_clear_winner():
    expected = scores([0.5, 0.4, 0.1], [0.4, 0.3999, 0.2001], [0.6, 0.3, 0.1], [0.7, 0.2, 0.1])
    actual = scores([0.5, 0.4, 0.1], [0.3999, 0.4, 0.2001], [0.3, 0.6, 0.1], [0.7, 0.2, 0.1])
    result = compare(expected, actual)
    assert (result.images, result.decisive_images) == (4, 3)
    assert result.top1_agreement == pytest.approx(2 / 3)
    assert result.max_abs_diff == pytest.approx(0.3)
    for precision in LIMITS:
        with pytest.raises(FidelityError, match=r"66\.67% of 3 images"):
            result.check(LIMITS[precision])


def test_a_winner_that_the_reference_gives_nearly_as_much_may_count_as_the_same():
    expected, actual = scores([0.5, 0.4, 0.1], [0.9, 0.05, 0.05]), scores([0.4, 0.5, 0.1], [0.1, 0.8, 0.1])
    assert compare(expected, actual).top1_agreement == 0
    assert compare(expected, actual, gap=0.05).top1_agreement == 0
    assert compare(expected, actual, gap=0.2).top1_agreement == 0.5
    assert compare(expected, actual, gap=0.2).decisive_images == 2


def test_equal_scores_pass_every_gate_and_one_class_is_enough():
    for limits in (*LIMITS.values(), PUBLISHED):
        compare(scores([0.9, 0.1]), scores([0.9, 0.1])).check(limits)
        compare(scores([1.0]), scores([1.0])).check(limits)


def test_scores_that_are_not_numbers_pass_no_gate():
    for limits in (*LIMITS.values(), PUBLISHED):
        with pytest.raises(FidelityError):
            compare(scores([0.3334, 0.3333, 0.3333]), scores([np.nan] * 3)).check(limits)


def agreeing(**changes):
    return Fidelity(
        1000, 1000, **{"top1_agreement": 1.0, "max_abs_diff": 0.0, "max_relative_diff": 0.0, **changes}
    )


@pytest.mark.parametrize(("precision", "least"), [("fp32", 1.0), ("fp16", 0.995), ("bf16", 0.995), ("int8", 0.98)])
def test_each_precision_has_its_own_agreement(precision, least):
    agreeing(top1_agreement=least).check(LIMITS[precision])
    with pytest.raises(FidelityError, match="agrees with eager fp32 on"):
        agreeing(top1_agreement=least - 0.001).check(LIMITS[precision])


@pytest.mark.parametrize("precision", LIMITS)
def test_half_a_point_of_accuracy_may_be_lost_and_no_more(precision):
    labelled = {"labelled_images": 1000, "reference_accuracy": 0.900}
    agreeing(accuracy=0.8951, **labelled).check(LIMITS[precision])
    agreeing(accuracy=0.99, **labelled).check(LIMITS[precision])
    with pytest.raises(FidelityError, match=r"is right on 89\.40% of 1000 images, eager fp32 on 90\.00%"):
        agreeing(accuracy=0.894, **labelled).check(LIMITS[precision])


def test_accuracy_counts_labelled_images_only():
    answers = scores([0.9, 0.1], [0.2, 0.8], [0.3, 0.7])
    assert accuracy(answers, np.array([0, 0, -1])) == 0.5
    assert accuracy(answers, np.array([-1, -1, -1])) is None


def test_scores_that_are_independent_are_compared_one_by_one():
    """Sigmoid, or one class: there is no winner, and a best score says nothing about the others."""
    expected = scores([0.9, 0.9, 0.0], [0.9, 0.0, 0.0])
    second_lost = scores([0.9, 0.0, 0.0], [0.9, 0.0, 0.0])
    assert compare(expected, second_lost).top1_agreement == 1
    assert compare(expected, second_lost, independent=True).top1_agreement == 0.5
    noise = np.random.default_rng(0).random((50, 1)).astype(np.float32)
    one_class = compare(np.full((50, 1), 0.01, np.float32), noise)
    assert one_class.decisive_images == 50 and one_class.top1_agreement < 0.3


def test_logits_may_be_near_zero():
    expected = scores([4.0, 1e-9, -3.0])
    compare(expected, expected + 1e-6).check(LIMITS["fp32"])
    with pytest.raises(FidelityError, match="differ"):
        compare(expected, expected * 1.02).check(LIMITS["fp32"])
