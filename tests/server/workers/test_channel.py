"""The socket between the supervisor and a worker."""

from __future__ import annotations

import socket

import pytest

import server.workers.channel
from server.workers.channel import CONNECTION, DRAIN, READY_WORKERS, SupervisorEnd, WorkerEnd, until_beat


@pytest.fixture
def ends():
    """Both ends of a channel."""
    above, below = socket.socketpair()
    with above, below:
        yield SupervisorEnd(above), WorkerEnd(below)


def test_orders_arrive_in_order_and_a_connection_can_be_used(ends):
    above, below = ends
    ours, client = socket.socketpair()
    with ours, client:
        assert above.order(READY_WORKERS, 3)
        assert above.order(CONNECTION, connection=ours)
        above.drain()
        ours.close()
        first, second, third = below.orders()
        assert (first.kind, first.number, first.connection) == (READY_WORKERS, 3, None)
        assert (second.kind, third.kind) == (CONNECTION, DRAIN)
        with second.connection as connection:
            connection.sendall(b"hello")
            assert client.recv(10) == b"hello"


def test_reports_are_whole_even_if_they_come_in_pieces(ends):
    above, below = ends
    assert above.reports() == []
    below.report(ready=["a", "b"])
    below.socket.send(b'{"clo')
    assert above.reports() == [{"ready": ["a", "b"]}]
    below.socket.send(b'sed": 2}\n{"leaving": true}\n')
    assert above.reports() == [{"closed": 2}, {"leaving": True}]


def test_a_worker_that_does_not_read_is_full_and_does_not_block(ends):
    above, below = ends
    ours, client = socket.socketpair()
    with ours, client:
        given = 0
        while above.order(CONNECTION, connection=ours):
            given += 1
        assert given > 50
        above.drain()  # there is room for that
        taken = []
        while not taken or taken[-1].kind != DRAIN:
            taken += below.orders()
        for order in taken[:-1]:
            order.connection.close()
    assert len(taken) == given + 1


def test_the_end_of_a_worker_is_seen(ends):
    above, below = ends
    below.report(closed=1)
    below.socket.close()
    assert above.reports() == [{"closed": 1}]
    assert above.reports() is None
    assert not above.order(READY_WORKERS, 1)
    above.drain()


@pytest.mark.parametrize(
    ("now", "after", "seconds"),
    [
        (100.0, 0.0, 2.0),
        (100.5, 0.0, 1.5),
        (101.2, 0.0, 2.8),
        (101.999, 0.0, 2.001),
        (100.0, 0.5, 1.0),
        (101.2, 0.5, 1.8),
    ],
)
def test_a_beat_is_at_the_same_time_everywhere_and_one_that_came_early_is_not_followed_by_another(
    monkeypatch, now, after, seconds
):
    monkeypatch.setattr(server.workers.channel, "BEAT_S", 2.0)
    monkeypatch.setattr(server.workers.channel.time, "monotonic", lambda: now)
    assert until_beat(after) == pytest.approx(seconds)
