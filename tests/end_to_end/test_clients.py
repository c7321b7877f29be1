"""The real process under clients that are too many, and under a descriptor limit."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import time

import psutil
import pytest

from benchmark.harness.server import ServerProcess
from tests.end_to_end.test_process import DEMO, DIGIT

UPLOAD = b"POST /classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
IDLE = 600


@contextlib.contextmanager
def soft_limit(count):
    """The soft limit of descriptors for what is started meanwhile."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
    try:
        yield hard
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def address_of(server):
    host, port = server.url.removeprefix("http://").split(":")
    return host, int(port)


def ask(server, sent):
    """All that is answered on a connection of its own; empty if it was refused."""
    with socket.create_connection(address_of(server), timeout=30) as client, contextlib.suppress(ConnectionError):
        client.sendall(sent)
        return b"".join(iter(lambda: client.recv(1 << 16), b""))
    return b""


def get(path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()


def upload():
    image = DIGIT.read_bytes()
    return UPLOAD % len(image) + image


def status_of_upload(server):
    """The status of an upload, tried again while it is refused: a connection is idle after a second."""
    ends = time.monotonic() + 60
    while (status := ask(server, upload())[:12]) in (b"HTTP/1.1 503", b"") and time.monotonic() < ends:
        time.sleep(0.1)
    return status


@pytest.fixture
def crowd():
    """A function that opens idle connections, which are closed with the test."""
    with contextlib.ExitStack() as stack:

        def connect(server, count):
            for _ in range(count):
                stack.enter_context(socket.create_connection(address_of(server), timeout=30))

        yield connect


@pytest.mark.parametrize("workers", [1, 2])
def test_600_idle_connections_beyond_the_cap_keep_nobody_out(crowd, workers):
    options = ("--max-connections", "64", "--workers", str(workers), "--header-timeout-s", "600")
    with ServerProcess("--model", str(DEMO), *options) as server:
        crowd(server, IDLE)
        for path in ("/healthz", "/readyz", "/metrics"):
            assert ask(server, get(path)).startswith(b"HTTP/1.1 200"), path
        assert status_of_upload(server) == b"HTTP/1.1 200"
        assert "--max-connections" in server.stderr()


@pytest.mark.parametrize("workers", [1, 2])
def test_without_descriptors_clients_are_refused_with_one_line_and_later_ones_served(workers):
    with ServerProcess("--model", str(DEMO), "--workers", str(workers)) as server:
        parent = psutil.Process(server.process.pid)
        for process in (parent, *parent.children(recursive=True)):
            process.rlimit(psutil.RLIMIT_NOFILE, (process.num_fds() + 20,) * 2)
        with contextlib.ExitStack() as clients:
            for _ in range(200):
                clients.enter_context(socket.create_connection(address_of(server), timeout=30))
            ask(server, get("/healthz"))
            ends = time.monotonic() + 60  # lines are written on a thread of their own
            while not (lines := server.stderr().count("no descriptor is left")) and time.monotonic() < ends:
                time.sleep(0.05)
            assert 1 <= lines <= workers
        assert status_of_upload(server) == b"HTTP/1.1 200"


def test_the_soft_limit_is_raised_to_the_hard_one():
    with soft_limit(256) as hard, ServerProcess("--model", str(DEMO), "--workers", "2") as server:
        parent = psutil.Process(server.process.pid)
        for process in (parent, *parent.children(recursive=True)):
            assert process.rlimit(psutil.RLIMIT_NOFILE) == (hard, hard)
        server.send(signal.SIGTERM)
        assert server.end()[0] == 0
