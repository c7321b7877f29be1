"""What the process stands on gives way: its output is not read, memory or disk is full, it is killed."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from benchmark.harness.server import ROOT, ServerProcess
from tests.end_to_end.test_workers import shared_folder, workers_of
from tests.processes import outlive

DEMO = ("--model", str(ROOT / "models" / "demo"))
DIGIT = next((ROOT / "images").glob("digit-7-*")).read_bytes()
TWO = (*DEMO, "--workers", "2")
PIPE_BYTES = 4096


def until(condition, seconds=60.0):
    """Waits for a true result, and returns it."""
    deadline = time.monotonic() + seconds
    while not (result := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return result


def ask(address, path="/classify", body=DIGIT):
    connection = http.client.HTTPConnection(address, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST" if body else "GET", path, body)
        response = connection.getresponse()
        return response.status, response.read().decode()


def answered(address):
    with contextlib.suppress(OSError):
        return ask(address)[0] == 200


def metric(address, name):
    """A figure; the sum over its labels."""
    lines = ask(address, "/metrics", None)[1].splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if re.match(rf"{name}[{{ ]", line))


@contextlib.contextmanager
def unread(*options):
    """A server whose output is a small pipe that nobody reads: its address, its process, the pipe's other end."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    words = [sys.executable, "-m", "server", "--port", str(port), *options]
    with subprocess.Popen(words, cwd=ROOT, stdout=writing, stderr=writing) as process:
        os.close(writing)
        try:
            until(lambda: answered(f"127.0.0.1:{port}"), 120)
            yield f"127.0.0.1:{port}", process, reading
        finally:
            with contextlib.suppress(OSError):
                os.close(reading)
            process.kill()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_output_that_nobody_reads_stops_neither_requests_nor_the_end(workers):
    with unread(*DEMO, "--workers", workers, "--access-log", "--log-level", "debug") as (address, process, _):
        assert {ask(address, "/classify", b"no image")[0] for _ in range(3 * PIPE_BYTES // 80)} == {415}
        assert answered(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_closed_output_stops_neither_requests_nor_the_end_and_what_is_lost_is_counted():
    with unread(*TWO, "--access-log") as (address, process, reading):
        os.close(reading)
        for _ in range(20):
            assert answered(address)
        until(lambda: metric(address, "snapserve_log_lines_dropped_total") >= 20)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_a_server_whose_output_is_closed_from_the_start_gives_its_descriptors_to_nobody():
    """Descriptor 1 would otherwise be the listening socket, or a client's."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
    words = [sys.executable, "-m", "server", "--port", str(port), *DEMO, "--workers", "1", "--access-log"]
    with subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *words], cwd=ROOT) as process:
        until(lambda: answered(f"127.0.0.1:{port}"), 120)
        files = [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in range(3)]
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert files == [Path("/dev/null")] * 3


def test_a_wrong_use_is_told_before_the_process_ends_and_a_full_output_does_not_hold_up_the_end():
    reading, writing = os.pipe()
    words = [sys.executable, "-m", "server", "--port", "0", "--model", "missing.pt"]
    with subprocess.Popen(words, cwd=ROOT, stderr=writing) as process:
        assert process.wait(60) == 2
    assert os.read(reading, 1000).startswith(b"snapserve: ")
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x")
    os.set_blocking(writing, True)
    with subprocess.Popen(words, cwd=ROOT, stderr=writing) as process:
        assert process.wait(60) == 2
    os.close(reading)
    os.close(writing)


MANY_METRICS = """
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter
from server.operations.shared_metrics import SharedMetrics
from tests.end_to_end.small_memory import own_memory

own_memory(100, 0)  # room for the files at their beginning, not for one of twice the size
SharedMetrics(Path("/dev/shm"), "0").join()
counter = Counter("many", "Many values.", ["x"], registry=CollectorRegistry())
for number in range(2000):
    counter.labels("x" * 100 + str(number)).inc()
assert b"many_total" in SharedMetrics(Path("/dev/shm"), "0").exposition()
"""


def test_a_process_with_more_metrics_than_there_is_memory_goes_on(mounts):
    words = [sys.executable, "-c", MANY_METRICS]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "no room for more metrics (No space left on device): new ones are not reported\n"


@pytest.fixture
def mounts():
    """Skips where mounts are forbidden."""
    probe = "from tests.end_to_end.small_memory import own_memory; own_memory(64, 0)"
    if subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, check=False).returncode:
        pytest.skip("mounts are forbidden here")


@pytest.fixture
def small_memory(mounts):
    """A function that starts a server with two workers and its own /dev/shm."""

    def start(kilobytes, taken):
        variables = {"MEMORY_KB": str(kilobytes), "TAKEN_KB": str(taken)}
        return ServerProcess(*TWO, module="tests.end_to_end.small_memory", variables=variables)

    return start


def test_a_full_memory_at_the_start_puts_the_figures_on_the_disk_and_says_so(small_memory):
    with small_memory(64, 64) as server:
        address = urlsplit(server.url).netloc
        folder = shared_folder(server)
        assert [ask(address)[0] for _ in range(8)] == [200] * 8
        assert metric(address, "snapserve_requests_total") == 8
        server.send(signal.SIGTERM)
        code, _ = server.end()
        said = server.stderr()
    assert code == 0
    assert f"no room for the metrics in /dev/shm (No space left on device); they are in {folder}" in said
    assert said.count("\n") == 1
    assert not folder.is_relative_to("/dev/shm") and not folder.exists()


def take_all(memory):
    """Leaves no room in a folder in memory."""
    with contextlib.suppress(OSError), (memory / "taken").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def test_a_memory_that_fills_up_later_ends_no_worker(small_memory):
    with small_memory(2048, 0) as server:
        address = urlsplit(server.url).netloc
        memory = Path(f"/proc/{server.process.pid}/root/dev/shm")
        take_all(memory)
        for query in ("", "?top_k=x", "?model=no"):  # outcomes that were not counted before
            ask(address, f"/classify{query}")
        psutil.Process(server.process.pid).children()[0].kill()  # another opens the files anew
        until(lambda: "ended with signal 9" in server.stderr())
        take_all(memory)
        until(lambda: " is ready, " in server.stderr())
        assert [ask(address)[0] for _ in range(8)] == [200] * 8
        assert metric(address, "snapserve_requests_total") == 11
        server.send(signal.SIGTERM)
        code, _ = server.end()
        said = server.stderr()
        left = sorted(path.name for path in memory.iterdir()) if memory.exists() else ["taken"]
    assert code == 0
    assert "signal 7" not in said
    assert left == ["taken"]


def test_nothing_is_left_behind_by_two_signals():
    with ServerProcess(*TWO, "--shutdown-delay-s", "600") as server:
        folder = shared_folder(server)
        assert folder.exists()
        server.send(signal.SIGINT)
        assert server.process.stdout is not None
        while "stopping in 600 s" not in server.process.stdout.readline():
            pass
        server.send(signal.SIGINT)
        code, _ = server.end(30)
    assert code == 130
    assert not folder.exists()


def test_what_is_left_behind_where_all_are_killed_the_next_start_removes():
    with ServerProcess(*TWO) as server:
        folder, workers = shared_folder(server), workers_of(server)
        for worker in workers:  # none of them sees that the supervisor has ended
            worker.suspend()
        server.process.kill()
        server.process.wait()
        for worker in workers:
            worker.kill()
        assert outlive(workers) == []
    start_again()  # another start, by a test beside this one, may have been quicker
    assert not folder.exists()


@pytest.fixture
def no_workers(tmp_path, monkeypatch):
    """Workers that end as soon as they are started."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\nif 'server.workers.worker' in sys.orig_argv:\n    os._exit(77)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))


def test_a_supervisor_that_is_killed_without_workers_leaves_what_the_next_start_removes(no_workers):
    with ServerProcess(*TWO, wait=False) as server:
        folder = until(lambda: folder_of_supervisor(server))
        server.process.kill()
        server.process.wait()
    start_again()
    assert not folder.exists()


def test_a_start_that_fails_leaves_nothing_behind(no_workers):
    with ServerProcess(*TWO, wait=False) as server:
        folder = until(lambda: folder_of_supervisor(server))
        code, _ = server.end()
    assert code == 3
    assert not folder.exists()


def start_again():
    """What a start does with the leftovers of others."""
    make = "from server.operations.shared_metrics import make_metrics_folder; make_metrics_folder(1).remove()"
    subprocess.run([sys.executable, "-c", make], cwd=ROOT, check=True)


def folder_of_supervisor(server):
    with contextlib.suppress(psutil.Error):
        files = psutil.Process(server.process.pid).open_files()
        return next((Path(file.path).parent for file in files if "/snapserve-metrics-" in file.path), None)
