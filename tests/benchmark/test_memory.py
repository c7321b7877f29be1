"""Decoding leaves no memory behind: a short version of `python -m benchmark memory`."""

from __future__ import annotations

import sys

import pytest

from benchmark.micro.memory import ALLOWED_MB, measure
from benchmark.micro.pictures import mixture


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_over_thousands_of_pictures():
    readings, outcomes = measure(2400, 600, threads=2)
    assert max(readings) - readings[0] < ALLOWED_MB
    assert set(outcomes) == {"decoded", "UndecodablePicture", "UnsupportedFormat", "TooManyPixels"}
    assert 0.3 < outcomes["decoded"] / sum(outcomes.values()) < 0.9


def test_the_mixture_is_the_same_every_time():
    assert mixture() == mixture()
