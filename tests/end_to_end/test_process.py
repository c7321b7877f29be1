"""The real process: how it starts, refuses to start, and ends."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path

import aiohttp
import pytest
import torch
from PIL import Image

from benchmark.harness.server import ROOT, ServerProcess
from models.bundles.bundle import MANIFEST, sha256_of
from models.networks.graph import jit_warnings_ignored

DEMO = ROOT / "models" / "demo"
ALONE = ("--workers", "1")  # starts sooner, where several are not what a test is about
DIGIT = next((ROOT / "images").glob("digit-7-*"))


@pytest.fixture
def bundle(tmp_path):
    """A copy of the demo bundle, to be damaged."""
    shutil.copytree(DEMO, tmp_path / "bundle", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    return tmp_path / "bundle"


def edit(bundle, **changes):
    document = json.loads((bundle / MANIFEST).read_text())
    document.update(changes)
    (bundle / MANIFEST).write_text(json.dumps(document))


def truncated(bundle):
    file = bundle / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    return file


def one_byte_flipped(bundle):
    file = bundle / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    return file


def wrong_class_count(bundle):
    edit(bundle, num_classes=11)
    return bundle / "labels.json"


def no_model_but_the_right_hash(bundle):
    file = bundle / "model.safetensors"
    file.write_bytes(b"this is not a model")
    engine = json.loads((bundle / MANIFEST).read_text())["engine"]
    edit(bundle, engine={**engine, "sha256": sha256_of(file)})
    return file


def no_manifest(bundle):
    (bundle / MANIFEST).unlink()
    return bundle / MANIFEST


@pytest.mark.parametrize(
    "damage", [truncated, one_byte_flipped, wrong_class_count, no_model_but_the_right_hash, no_manifest]
)
def test_a_damaged_bundle_ends_the_start_with_code_2_and_one_line_that_names_the_file(bundle, damage):
    file = damage(bundle)
    with ServerProcess("--model", str(bundle), wait=False) as server:
        code, _ = server.end()
        said = server.stderr()
    assert code == 2
    assert said.startswith(f"snapserve: {file}: ")
    assert said.count("\n") == 1


def compiled_elsewhere(bundle, **engines):
    """Makes the demo say that its engine is a graph that torch 1.0 compiled."""
    (bundle / "model.ts").write_bytes(b"never read")
    engine = {"kind": "torchscript", "file": "model.ts", "sha256": sha256_of(bundle / "model.ts"), "device": "cpu"}
    edit(bundle, engine=engine, engines={"fast": engine, **engines}, built_with={"torch": "1.0.0"})


def test_a_bundle_compiled_by_another_torch_is_served_from_its_weights_and_says_so(bundle):
    weights = json.loads((bundle / MANIFEST).read_text())["engine"]
    compiled_elsewhere(bundle, weights=weights)
    with ServerProcess("--model", str(bundle), *ALONE) as server:
        assert server.process.stdout is not None
        described, _, warning = [server.process.stdout.readline() for _ in range(3)]
        assert post(server.url, DIGIT)["predictions"][0]["label"] == "7"
        assert server.stderr() == ""
    assert "fp32 on cpu (torchscript, " in described
    assert warning.startswith(f"  WARNING: {bundle}: built with torch 1.0, ")
    assert "its weights are compiled anew" in warning


@pytest.mark.parametrize("options", [(), ("--engine", "fast"), ("--engine", "faster")])
def test_a_bundle_that_cannot_be_served_here_is_code_2_and_one_line(bundle, options):
    compiled_elsewhere(bundle)
    with ServerProcess("--model", str(bundle), *options, wait=False) as server:
        code, _ = server.end()
        said = server.stderr()
    assert code == 2
    assert said.startswith(f"snapserve: {bundle}: ")
    assert said.count("\n") == 1
    assert ("has no engine 'faster'" if "faster" in options else "built with torch 1.0, ") in said


def test_what_the_start_has_made_is_kept_out_of_garbage_collections():
    """A collection that visits all of torch's objects holds up the event loop for a tenth of a second."""
    code = (
        "import gc, server.service, server.__main__\n"
        "others = lambda: sum(len(gc.get_objects(generation)) for generation in range(3))\n"
        "server.service.banner = lambda *_, **__: f'{gc.get_freeze_count()} {others()}'\n"
        f"server.__main__.main(['--port', '0', '--workers', '1', '--model', {str(DEMO)!r}], alone=True)"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        frozen, others = map(int, process.stdout.readline().split())
        process.kill()
    assert frozen > 100 * others


def bare_model(folder, classes=10):
    """A small scripted network: float [N, 3, 224, 224] -> logits."""
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, classes))
    file = folder / "network.pt"
    with jit_warnings_ignored():
        torch.jit.save(torch.jit.script(network.eval()), file)
    return file


@pytest.mark.parametrize("damage", ["none", "truncated", "flipped", "text", "classes"])
def test_a_bare_torchscript_file(tmp_path, damage):
    file = bare_model(tmp_path, classes=9 if damage == "classes" else 10)
    content = bytearray(file.read_bytes())
    if damage == "truncated":
        file.write_bytes(content[:-200])
    if damage == "flipped":
        with zipfile.ZipFile(file) as archive:
            content[content.index(archive.read("network/data.pkl")) + 5] ^= 1
        file.write_bytes(content)
    if damage == "text":
        file.write_text("not a model")
    options = ("--model", str(file), "--labels", str(DEMO / "labels.json"), *ALONE)
    if damage == "none":
        with ServerProcess(*options) as server:
            assert len(post(server.url, DIGIT)["predictions"]) == 5
        return
    with ServerProcess(*options, wait=False) as server:
        code, _ = server.end()
        said = server.stderr()
    assert code == 2
    assert str(file) in said
    assert said.count("\n") == 1


def test_a_port_in_use_is_code_2_and_one_line_with_the_range():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with ServerProcess("--model", str(DEMO), "--port", str(port), wait=False) as server:
            code, _ = server.end()
            said = server.stderr()
    assert code == 2
    assert said == (
        f"snapserve: --port {port}: is in use on 127.0.0.1; must be a free one between 0 and 65535, 0 takes any\n"
    )


def test_an_address_of_another_machine_is_code_2():
    with ServerProcess("--model", str(DEMO), "--host", "192.0.2.1", wait=False) as server:
        code, _ = server.end()
        assert (code, server.stderr().count("\n")) == (2, 1)


def post(url, file):
    request = urllib.request.Request(url + "/classify", data=Path(file).read_bytes(), method="POST")
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


@pytest.mark.parametrize(("loop", "workers"), [("uvloop", "2"), ("asyncio", "1")])
def test_sigterm_with_200_requests_in_flight_loses_none(loop, workers):
    """All 200 wait in the queue, which /metrics confirms, when the signal comes."""
    options = ("--max-batch-size", "256", "--batch-timeout-ms", "3000", "--loop", loop, "--workers", workers)
    with ServerProcess("--model", str(DEMO), *options) as server:
        statuses = asyncio.run(_send_and_stop(server, 200))
        code, output = server.end()
    assert statuses == [200] * 200
    assert code == 0
    assert "stopping: 200 requests in flight" in output
    assert "drained: 200 requests answered, 0 left" in output


async def _send_and_stop(server, count):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(server.url, connector=connector) as session:
        sent = [asyncio.ensure_future(session.post("/classify", data=DIGIT.read_bytes())) for _ in range(count)]
        async with asyncio.timeout(30):
            while await _metric(session, 'snapserve_queue_depth{model="digits",version="1"}') < count:
                await asyncio.sleep(0.01)
        server.send(signal.SIGTERM)
        responses = await asyncio.gather(*sent)
        assert all(response.headers["Connection"] == "close" for response in responses)
        return [response.status for response in responses]


async def _metric(session, name):
    async with session.get("/metrics") as response:
        lines = (await response.text()).splitlines()
    return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name))


def test_ctrl_c_drains_and_a_second_one_ends_at_once():
    with ServerProcess("--model", str(DEMO)) as server:
        host, port = server.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as half:
            half.sendall(
                b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n"
            )
            assert half.recv(100).startswith(b"HTTP/1.1 100"), "the request was accepted"
            server.send(signal.SIGINT)
            assert server.process.stdout is not None
            while "stopping: 1 requests in flight" not in server.process.stdout.readline():
                pass
            server.send(signal.SIGINT)
            code, _ = server.end(10)
    assert code == 130


def test_a_image_that_takes_for_ever_does_not_hold_up_the_end(tmp_path):
    """Its client is told 504, and the thread goes on; the process ends all the same."""
    bomb = slow_jpeg()
    with ServerProcess("--model", str(DEMO), "--decode-threads", "1", *ALONE) as server:
        request = urllib.request.Request(server.url + "/classify", bomb, {"X-Request-Timeout-Ms": "300"})
        with pytest.raises(urllib.error.HTTPError) as refusal:
            urllib.request.urlopen(request, timeout=30)
        assert refusal.value.code == 504
        refusal.value.close()
        server.send(signal.SIGTERM)
        code, output = server.end(20)
    assert code == 0
    assert "drained: 0 requests answered, 0 left" in output


def slow_jpeg():
    """49 megapixels in as many scans as are allowed: some ten seconds of decoding."""
    buffer = io.BytesIO()
    Image.new("L", (7000, 7000), 90).save(buffer, "JPEG", progressive=True)
    data = buffer.getvalue()
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * 90 + data[-2:]


def test_ctrl_c_without_requests_is_code_0():
    with ServerProcess("--model", str(DEMO), *ALONE) as server:
        server.send(signal.SIGINT)
        code, output = server.end()
        assert server.stderr() == ""
    assert code == 0
    assert "drained: 0 requests answered, 0 left" in output


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sighup_drains_like_sigterm(workers):
    with ServerProcess("--model", str(DEMO), "--workers", workers) as server:
        server.send(signal.SIGHUP)
        code, output = server.end()
    assert code == 0
    assert "stopping: 0 requests in flight" in output
    assert "drained: 0 requests answered, 0 left" in output


def test_a_terminal_that_is_closed_drains_the_server():
    """It takes no lines any more, and that must not end the drain."""
    main, terminal = os.openpty()
    code = f"import server.__main__ as m; m.main(['--port', '0', '--workers', '1', '--model', {str(DEMO)!r}])"
    in_front = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); " + code
    streams = {"stdin": terminal, "stdout": terminal, "stderr": terminal}
    with subprocess.Popen(
        [sys.executable, "-c", in_front], cwd=ROOT, start_new_session=True, **streams
    ) as process:
        os.close(terminal)
        shown = b""
        while b"Ctrl-C stops" not in shown:
            shown += os.read(main, 1000)
        os.close(main)
        assert process.wait(30) == 0


def test_a_server_that_nohup_has_started_outlives_its_terminal():
    with ServerProcess("--model", str(DEMO), *ALONE, module="tests.end_to_end.nohup") as server:
        server.send(signal.SIGHUP)
        assert len(post(server.url, DIGIT)["predictions"]) == 5
        server.send(signal.SIGTERM)
        code, _ = server.end()
    assert code == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_signal_ends_the_shutdown_delay_at_once(workers):
    with ServerProcess("--model", str(DEMO), "--workers", workers, "--shutdown-delay-s", "600") as server:
        server.send(signal.SIGTERM)
        assert server.process.stdout is not None
        while "stopping in 600 s" not in server.process.stdout.readline():
            pass
        assert post(server.url, DIGIT)["predictions"][0]["label"] == "7"
        server.send(signal.SIGHUP)
        code, _ = server.end(10)
    assert code == 128 + signal.SIGHUP


def test_the_console_script_prints_what_is_in_force():
    words = [sys.executable, "-m", "server", "--print-config", "--port", "1234"]
    printed = subprocess.run(words, check=True, capture_output=True, text=True, cwd=ROOT).stdout
    assert "--port 1234" in printed.splitlines()
