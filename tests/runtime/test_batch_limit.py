"""When an engine counts as hung."""

from __future__ import annotations

import math

import pytest

from runtime.batch_limit import BatchLimit


@pytest.mark.parametrize(
    ("full_batch_s", "most_s", "limit_s"),
    [
        (0.01, 30.0, 5.0),  # a small model on a machine that swaps
        (1.0, 30.0, 20.0),
        (10.0, 30.0, 30.0),  # no client waits longer
        (0.5, 0.2, 5.0),  # impatient clients are no reason to end an engine
    ],
)
def test_without_a_limit_it_is_found_from_a_full_batch(full_batch_s, most_s, limit_s):
    limit = BatchLimit(None, most_s)
    assert limit.of(full_batch_s) == limit_s
    assert limit.at_start_s == max(5.0, most_s), "the first batches are cold"


@pytest.mark.parametrize("given_s", [0.001, 600.0, math.inf])
def test_a_limit_that_is_given_stays(given_s):
    limit = BatchLimit(given_s, 30.0)
    assert limit.of(10.0) == limit.at_start_s == given_s
