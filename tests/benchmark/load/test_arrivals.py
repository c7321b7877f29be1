"""Arrivals are Poisson, repeatable, and the same however many processes share them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.load.plan import Plan, Rules, poisson


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


def test_every_picture_is_chosen():
    plan = Plan("http://127.0.0.1:1", (None,) * 10, Rules(()))
    assert set(plan.choices(1000)) == set(range(10))
    assert plan.choices(1000) == plan.choices(1000) != plan.choices(1000, block=1)
