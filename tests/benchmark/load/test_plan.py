"""Answers are checked, and arrivals are Poisson and repeatable, however many processes share them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmark.load.plan import Plan, Question, Rules, poisson
from benchmark.load.questions import choose

RULES = Rules(("cat", "dog", "fox", "hen"), top_k=3)
QUESTION = Question("image", b"", (0.1, 0.6, 0.25, 0.05))


def answer(*pairs):
    return [{"label": RULES.labels[index], "score": score, "index": index} for index, score in pairs]


def test_the_exact_answer_and_one_within_the_tolerance_are_right():
    assert QUESTION.fault(QUESTION.predictions(RULES), RULES) == ""
    assert QUESTION.fault(answer((1, 0.604), (2, 0.246), (0, 0.1)), RULES) == ""


@pytest.mark.parametrize(
    ("predictions", "said"),
    [
        (answer((1, 0.61), (2, 0.25), (0, 0.1)), "known is 0.6000"),
        (answer((1, float("nan")), (2, 0.25), (0, 0.1)), "known is"),
        (answer((2, 0.25), (1, 0.6), (0, 0.1)), "'dog' comes after 'fox'"),
        (answer((1, 0.6), (2, 0.25), (3, 0.05)), "'cat' is missing"),
        (answer((1, 0.6), (2, 0.25)), "2 different labels"),
        (answer((1, 0.6), (2, 0.25), (2, 0.25)), "2 different labels"),
        ([{"label": "cat", "score": 0.6, "index": 1}], "label 'cat' at index 1"),
    ],
)
def test_a_wrong_answer_is_named(predictions, said):
    assert said in QUESTION.fault(predictions, RULES)


def test_close_scores_may_come_in_either_order():
    close = Question("close", b"", (0.302, 0.298, 0.25, 0.15))
    assert close.fault(answer((1, 0.301), (0, 0.3), (2, 0.25)), RULES) == ""


def test_the_body_has_to_carry_the_request_id_and_to_be_an_answer():
    right = {"request_id": "a", "predictions": QUESTION.predictions(RULES)}
    assert QUESTION.fault_of_body(json.dumps(right).encode(), "a", RULES) == ""
    assert "request_id" in QUESTION.fault_of_body(json.dumps(right).encode(), "b", RULES)
    for body in (b"", b"[]", b'{"request_id": "a"}', b'{"request_id": "a", "predictions": [{"index": 9}]}'):
        assert "not an answer" in QUESTION.fault_of_body(body, "a", RULES)


def test_only_images_that_can_be_told_apart_are_chosen():
    same = Question("same", b"", (0.104, 0.597, 0.25, 0.05))
    other = Question("other", b"", (0.6, 0.1, 0.25, 0.05))
    assert choose([QUESTION, same, other], 3, RULES, keep_all=False) == ([QUESTION, other], 2)
    assert choose([QUESTION, same, other], 3, RULES, keep_all=True) == ([QUESTION, other, same], 2)
    assert choose([QUESTION, same], 2, RULES, keep_all=False)[1] == 1


def test_gaps_are_exponential():
    gaps = np.diff(poisson(200, seed=1, requests=20_000))
    assert gaps.min() > 0
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.05)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)  # regular ones would have none


def test_seconds_bound_the_arrivals_and_the_seed_repeats_them():
    times = poisson(100, seed=2, seconds=5)
    assert times[-1] < 5
    assert 400 < len(times) < 600
    assert np.array_equal(times, poisson(100, seed=2, seconds=5))
    assert not np.array_equal(times, poisson(100, seed=3, seconds=5))


def test_processes_share_the_arrivals_of_one():
    plan = Plan("http://127.0.0.1:1", (), Rules(()), poisson(100, seed=4, requests=101))
    shares = [plan.share(number, 3) for number in range(3)]
    assert np.array_equal(np.sort(np.concatenate([share.due_s for share in shares])), plan.due_s)
    assert len({share.name for share in shares}) == len({share.seed for share in shares}) == 3


def test_every_image_is_chosen():
    plan = Plan("http://127.0.0.1:1", (None,) * 10, Rules(()))
    assert set(plan.choices(1000)) == set(range(10))
    assert plan.choices(1000) == plan.choices(1000) != plan.choices(1000, block=1)
