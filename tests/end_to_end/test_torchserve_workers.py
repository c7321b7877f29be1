"""TorchServe's ports behind two workers: one count of all, and one file of keys."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import signal
import time
from urllib.parse import urlsplit

import psutil
import pytest

from benchmark.harness.server import ServerProcess
from tests.conftest import ROOT, flat
from tests.end_to_end.archives import ECHO, make_archive

WORKER = "server.workers.worker"

_ADDRESS = re.compile(r"(inference API|management|metrics) on (http://127\.0\.0\.1:\d+)")
_PORTS = [word for api in ("inference", "management", "metrics") for word in (f"--{api}-address", "127.0.0.1:0")]


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The server's folder, and the address of each of its APIs."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "store").mkdir()
    store, model = ("--model-store", "store"), ("--model", str(ROOT / "models/demo"))
    options = ("--torchserve", "--ncs", "--enable-model-api", *store, *model, *_PORTS, "--workers", "2")
    with ServerProcess(*options, folder=folder) as server:
        urls = {name.split()[0]: url for name, url in _ADDRESS.findall(server.line("TorchServe's"))}
        yield folder, urls
        waiting = ask_while_workers_start(folder, urls)
        server.send(signal.SIGTERM)
        assert waiting.getresponse().status == 503, "there will be no worker"
        waiting.close()
        code, _ = server.end(20)
        assert code == 0, server.stderr()


def ask_while_workers_start(folder, urls):
    """A connection with a request that waits for workers which take a minute to load."""
    make_archive(folder / "store" / "late.mar", "late", f"import time\ntime.sleep(60)\n{ECHO}")
    manager = Clients(urls["management"])
    registration = "/models?url=late.mar&initial_workers=2&synchronous=false"
    assert manager.ask_one("POST", registration, key(folder, "management"))[0] == 202
    manager.close()
    waiting = http.client.HTTPConnection(urlsplit(urls["inference"]).netloc, timeout=20)
    waiting.request("POST", "/predictions/late", b"x", {"Authorization": f"Bearer {key(folder, 'inference')}"})
    return waiting


class Clients:
    """Two connections at once, which the dispatcher gives to two workers."""

    def __init__(self, url):
        self.connections = [http.client.HTTPConnection(urlsplit(url).netloc, timeout=30) for _ in range(2)]
        for each in self.connections:
            each.connect()

    def ask(self, path, key="", body=None):
        """Status and text of a request on each connection."""
        return [self.ask_one("POST", path, key, body, each) for each in self.connections]

    def ask_one(self, method, path, key="", body=None, connection=None):
        """Status and text of a request on one of them."""
        connection = connection or self.connections[0]
        connection.request(method, path, body, {"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read().decode()

    def close(self):
        for each in self.connections:
            each.close()


def key(folder, kind):
    return json.loads((folder / "key_file.json").read_text())[kind]["key"]


def test_both_workers_answer_and_count_as_one(served):
    folder, urls = served
    clients = Clients(urls["inference"])
    right, image = key(folder, "inference"), flat(200, 32)
    for _ in range(3):
        answers = clients.ask("/predictions/digits", right, image)
        assert [status for status, _ in answers] == [200, 200]
        assert answers[0] == answers[1]
    assert [status for status, _ in clients.ask("/predictions/none", right)] == [404, 404]
    clients.close()
    pages = Clients(urls["metrics"])
    for _, text in pages.ask("/metrics?name[]=ts_inference_requests_total&name[]=Requests4XX"):
        assert re.search(r'ts_inference_requests_total\{model_name="digits",.*\} 6\.0\n', text)
        assert re.search(r"Requests4XX\{.*\} 2\.0\n", text)
    pages.close()


def test_all_workers_see_a_new_key_at_once(served):
    folder, urls = served
    clients, manager = Clients(urls["inference"]), Clients(urls["management"])
    old = key(folder, "inference")
    assert [status for status, _ in clients.ask("/ping", old)] == [200, 200]
    assert [status for status, _ in manager.ask("/token?type=inference", key(folder, "API"))] == [200, 200]
    new = key(folder, "inference")
    for given, status in ((old, 400), (new, 200), (key(folder, "management"), 400)):
        assert [found for found, _ in clients.ask("/ping", given)] == [status, status]
    clients.close()
    manager.close()


def test_a_worker_that_is_killed_while_a_model_is_registered_does_not_undo_it(served):
    folder, urls = served
    make_archive(folder / "store" / "slow.mar", "slow", f"import time\ntime.sleep(1)\n{ECHO}")
    manager, manages = Clients(urls["management"]), key(folder, "management")
    status, _ = manager.ask_one("POST", "/models?url=slow.mar&initial_workers=2&synchronous=false", manages)
    assert status == 202
    workers = [each for each in psutil.Process().children(recursive=True) if WORKER in each.cmdline()]
    workers[0].kill()
    inferring, end = key(folder, "inference"), time.monotonic() + 60
    for _ in range(2):  # the second one comes when all is settled, or while the other worker starts
        status = 0
        while status != 200:
            assert time.monotonic() < end
            assert status in (0, 503), "it stays registered"
            client = Clients(urls["inference"])
            with contextlib.suppress(OSError, http.client.HTTPException):  # of the worker that was killed
                status, _ = client.ask_one("POST", "/predictions/slow", inferring, b"x")
            client.close()
    assert manager.ask_one("DELETE", "/models/slow", manages)[0] == 200
    manager.close()
