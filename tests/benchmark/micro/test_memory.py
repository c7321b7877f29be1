"""Decoding leaves no memory behind: a short version of `python -m benchmark memory`."""

from __future__ import annotations

import sys

import pytest

from benchmark.micro import memory
from benchmark.micro.memory import mixture


@pytest.fixture(scope="module")
def files():
    """The mixture, which takes seconds to make."""
    return mixture()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_does_not_grow_over_thousands_of_images(files, monkeypatch):
    monkeypatch.setattr(memory, "mixture", lambda: files)
    readings, outcomes = memory.measure(2400, 600, threads=2)
    assert max(readings) - readings[0] < memory.ALLOWED_MB
    refusals = {"UndecodableImage", "UnsupportedImage", "UnsupportedFormat", "TooManyPixels"}
    assert set(outcomes) == {"decoded", *refusals}
    assert 0.3 < outcomes["decoded"] / sum(outcomes.values()) < 0.9


def test_the_mixture_is_the_same_every_time(files):
    assert mixture() == files
