"""The socket between the supervisor and a worker."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from server.workers.messages import (
    Adopt,
    Closed,
    Commit,
    Committed,
    Drain,
    Drained,
    Draining,
    Failed,
    Heartbeat,
    Leave,
    Leaving,
    Prepare,
    Prepared,
    Ready,
    ReadyWorkers,
    Refused,
    Show,
    Shown,
    Stuck,
    SupervisorEnd,
    Undo,
    Undone,
    Unhealthy,
    WorkerEnd,
    file_in_memory,
    read_file,
)


@pytest.fixture
def ends():
    """Both ends."""
    above, below = socket.socketpair()
    with above, below:
        yield SupervisorEnd(above), WorkerEnd(below)


def test_orders_arrive_in_order_and_a_connection_can_be_used(ends):
    above, below = ends
    ours, client = socket.socketpair()
    with ours, client:
        assert above.send(ReadyWorkers(3))
        assert above.send(ReadyWorkers(1000))
        assert above.send(Leave())
        assert above.send(Adopt(ours))
        above.drain()
        ours.close()
        *orders, adopt, drain = below.orders()
        assert orders == [ReadyWorkers(3), ReadyWorkers(255), Leave()]
        assert drain == Drain()
        with adopt.connection as connection:
            connection.sendall(b"hello")
            assert client.recv(10) == b"hello"


@pytest.mark.parametrize(
    "report",
    [
        Ready(["a", "b"]),
        Failed("x: damaged"),
        Heartbeat(overdue=True),
        Heartbeat(unavailable=True),
        *(Closed(2), Leaving(), Stuck("a"), Draining(3), Drained(4, 0)),
        *(Prepared(1), Committed(255), Undone(0), Shown(3), Unhealthy("a", "2", "errors")),
        Refused(1, "Prepare", "ModelRefused", "Größe\n\u2028"),
    ],
)
def test_a_report_arrives_as_it_was_sent(ends, report):
    above, below = ends
    below.send(report)
    assert above.reports() == [report]


def test_the_orders_of_a_change_arrive_in_order_however_large_the_set_is(ends):
    above, below = ends
    models = "ä" * 1_000_000
    with file_in_memory() as answer:
        for order in (Prepare(1, models), Prepare(255, ""), Leave(), Undo(2), Commit(0), Show(7, answer)):
            assert above.send(order)
        *orders, show = below.orders()
        assert orders == [Prepare(1, models), Prepare(255, ""), Leave(), Undo(2), Commit(0)]
        with os.fdopen(show.answer, "wb") as file:
            file.write(b"told")
        assert (show.question, read_file(answer)) == (7, b"told")


def test_a_worker_without_descriptors_learns_of_a_change_and_not_of_its_models(ends):
    above, below = ends
    with file_in_memory() as answer, pytest.MonkeyPatch.context() as patch:
        assert above.send(Prepare(1, "models"))
        assert above.send(Show(2, answer))
        receive = socket.recv_fds

        def without(end, size, most):
            message, descriptors, flags, address = receive(end, size, most)
            for each in descriptors:
                os.close(each)
            return message, [], flags, address

        patch.setattr(socket, "recv_fds", without)
        assert list(below.orders()) == [Prepare(1, None), Show(2, None)]


def test_no_descriptor_is_left_open(ends):
    above, below = ends
    before = len([*Path("/proc/self/fd").iterdir()])
    for number in range(20):
        assert above.send(Prepare(number, "models"))
    assert len(list(below.orders())) == 20
    assert len([*Path("/proc/self/fd").iterdir()]) == before


def test_reports_are_whole_even_if_they_come_in_pieces(ends):
    above, below = ends
    assert above.reports() == []
    below.send(Heartbeat())
    below.socket.send(b'{"report": "Clo')
    assert above.reports() == [Heartbeat()]
    below.socket.send(b'sed", "count": 2}\n{"report": "Leaving"}\n')
    assert above.reports() == [Closed(2), Leaving()]


def test_a_worker_that_does_not_read_is_full_and_does_not_block(ends):
    above, below = ends
    ours, client = socket.socketpair()
    with ours, client:
        given = 0
        while above.send(Adopt(ours)):
            given += 1
        assert given > 50
        above.drain()  # there is room for that
        taken = []
        while not taken or taken[-1] != Drain():
            taken += below.orders()
        for order in taken[:-1]:
            order.connection.close()
    assert len(taken) == given + 1


def test_the_end_of_a_worker_is_seen(ends):
    above, below = ends
    below.send(Closed(1))
    below.socket.close()
    assert above.reports() == [Closed(1)]
    assert above.reports() is None
    assert not above.send(ReadyWorkers(1))
    above.drain()


def test_a_supervisor_that_drains_is_there_and_one_that_ended_is_not(ends):
    supervisor, worker = ends
    assert not worker.abandoned
    supervisor.drain()
    assert list(worker.orders()) == [Drain()]
    assert not worker.abandoned
    worker.send(Heartbeat())
    supervisor.socket.close()
    assert worker.abandoned
    worker.send(Heartbeat())  # gets no answer, and is no error


def test_a_supervisor_that_is_killed_with_reports_unread_ends_its_worker():
    """The kernel resets such a channel instead of closing it."""
    above, below = socket.socketpair()
    with below:
        worker = WorkerEnd(below)
        worker.send(Heartbeat())
        above.close()
        assert list(worker.orders()) == [Drain()] and worker.abandoned
