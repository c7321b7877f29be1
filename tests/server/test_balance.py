"""Whose connections had better be another's."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.balance import Load, LoadMeter, Move, move


def test_the_meter_counts_who_was_being_answered_since_it_was_read():
    now = 10.0
    meter = LoadMeter(lambda: now)
    for seconds in (0.5, 0.25, 0.25):
        meter.add(seconds)
    now = 12.0
    assert meter.read() == Load(in_flight=0.5, latency_s=pytest.approx(1 / 3))
    now = 13.0
    assert meter.read() == Load(0.0, 0.0)
    meter.add(1.0)
    assert meter.read() == Load(0.0, 0.0), "in no time nothing can be said"


@pytest.mark.parametrize(
    ("loads", "expected"),
    [
        ({0: Load(12.0, 0.2), 1: Load()}, Move(0, 1, 6)),
        ({0: Load(12.0, 0.2), 1: Load(), 2: Load(30.0, 0.5)}, Move(2, 1, 15)),
        ({0: Load(16.0, 0.2), 1: Load(16.0, 0.3)}, Move(1, 0, 1)),
        ({0: Load(16.0, 0.20), 1: Load(16.0, 0.25)}, None),
        ({0: Load(1.2, 0.9), 1: Load()}, None),
        ({0: Load(), 1: Load()}, None),
        ({0: Load(50.0, 1.0)}, None),
    ],
    ids=[
        "one idle",
        "slowest to quickest",
        "a slow core",
        "about equal",
        "a lone client",
        "all idle",
        "one worker",
    ],
)
def test_who_moves(loads, expected):
    assert move(loads) == expected


@given(
    speeds=st.lists(st.floats(20.0, 200.0), min_size=2, max_size=8),
    clients=st.integers(1, 200),
    first=st.integers(0, 7),
)
def test_clients_that_always_ask_come_to_wait_alike_wherever_they_were(speeds, clients, first):
    """A busy worker's clients wait for the answers to all of them. The moves end when none could mend anything."""
    connections = [0] * len(speeds)
    connections[first % len(speeds)] = clients
    for count in itertools.count():
        loads = {
            number: Load(float(number_of), number_of / speeds[number])
            for number, number_of in enumerate(connections)
        }
        moved = move(loads)
        if moved is None:
            break
        connections[moved.source] -= moved.connections
        connections[moved.target] += moved.connections
        assert min(connections) >= 0
        assert count < 100
    slowest, quickest = (rule(loads.values(), key=lambda load: load.latency_s) for rule in (max, min))
    assert slowest.in_flight / 2 * (slowest.latency_s - quickest.latency_s) < (
        slowest.latency_s + quickest.latency_s
    )
