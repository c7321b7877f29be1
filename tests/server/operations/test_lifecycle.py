"""The socket that clients connect to is closed without resetting a connection."""

import contextlib
import socket
import sys
import threading

import pytest

from server.operations.lifecycle import ignore_newcomers

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's filter is Linux's")


def test_who_is_connected_stays_and_newcomers_are_not_answered():
    with (
        socket.create_server(("127.0.0.1", 0)) as listening,
        socket.create_connection(listening.getsockname()) as client,
    ):
        ignore_newcomers(listening)
        with pytest.raises(TimeoutError):
            socket.create_connection(listening.getsockname(), timeout=0.1)
        with listening.accept()[0] as accepted:
            client.sendall(b"still here")
            assert accepted.recv(100) == b"still here"


def test_nobody_is_reset_when_the_socket_is_closed_under_a_storm_of_clients():
    """Without the filter somebody is, at every second to every third of these closes."""
    for _ in range(20):
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        listening.setblocking(False)
        reset = threading.Event()
        clients = [threading.Thread(target=storm, args=(listening.getsockname(), reset)) for _ in range(4)]
        for client in clients:
            client.start()
        ignore_newcomers(listening)
        with contextlib.suppress(BlockingIOError):
            while True:
                listening.accept()[0].close()
        listening.close()
        for client in clients:
            client.join()
        assert not reset.is_set()


def storm(address, reset):
    with contextlib.suppress(TimeoutError, ConnectionRefusedError):
        while True:
            try:
                with socket.create_connection(address, timeout=0.05) as connection:
                    connection.recv(1)
            except ConnectionResetError:
                reset.set()
                return
