"""DrainRate."""

from __future__ import annotations

import pytest

from batching.rate import DrainRate


def test_a_second_before_anything_is_known():
    assert DrainRate().seconds_for(1000) == 1.0


def test_follows_the_measured_rate():
    rate = DrainRate()
    rate.add(10, 1.0)
    assert rate.seconds_for(100) == pytest.approx(10.0)
    for _ in range(100):
        rate.add(10, 0.5)
    assert rate.seconds_for(100) == pytest.approx(5.0, rel=1e-3)


def test_never_says_less_than_a_second():
    rate = DrainRate()
    rate.add(1000, 0.001)
    assert rate.seconds_for(1) == 1.0
