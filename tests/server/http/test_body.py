"""When a body is too slow."""

from __future__ import annotations

import pytest

from server.http.body import Pace


def pace(*received, rate=500):
    """A pace with a time limit of 20 s that began at 100 and got (bytes, seconds later)."""
    made = Pace(100.0, 20.0, rate)
    for count, later in received:
        made.count(count, 100.0 + later)
    return made


def test_the_first_byte_and_every_further_one_has_the_time_limit():
    assert pace().due == 120
    assert pace((100_000, 7)).due == 127


def test_beyond_the_time_limit_the_rate_counts():
    assert pace((1000, 1), (1000, 18)).due == 100 + 20 + 2000 / 500
    assert pace((1000, 1), (1000, 18), rate=0).due == 138


@pytest.mark.parametrize(
    ("received", "seconds", "slow"),
    [
        ([], 0.3, False),  # a deadline that is shorter than any network's pause
        ([], 30, True),
        ([(10_000, 0.1)], 3, True),  # it has stopped
        ([(10_000, n) for n in range(1, 31)], 30, False),  # it comes steadily, and is long
        ([(100, n) for n in range(1, 31)], 30, True),
    ],
)
def test_at_the_deadline_a_body_is_at_fault_if_it_stands_still_or_trickles(received, seconds, slow):
    assert pace(*received).is_slow(100.0 + seconds) == slow
