"""A server in the test's own event loop, on a real socket, with an engine whose answers tell images apart."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import json
import subprocess

import aiohttp
import pytest

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec, PreprocessSpec
from models.engines import ENGINES
from models.images import resize
from server.config import Config
from server.operations.listeners import open_listeners
from server.options import SECTIONS
from server.service import Service

GEOMETRY = PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


@pytest.fixture(autouse=True)
def resize_without_torch(request, monkeypatch):
    """`-m quick` resizes with Pillow, the other way to the same pixels: torch takes seconds to import."""
    if request.config.option.markexpr == "quick":
        monkeypatch.setattr(resize, "_suits_torch", lambda *arguments: False)


@pytest.fixture
def hash_bundle(tmp_path, monkeypatch):
    """A bundle on disk whose engine hashes the pixels: 8 x 8 pixels, 10 classes."""
    monkeypatch.setitem(ENGINES, "hash", "tests.engines")
    folder = tmp_path / "hash"
    folder.mkdir()
    (folder / "engine.bin").write_bytes(b"nothing")
    engine = EngineSpec("hash", "engine.bin", "", device="cpu")
    spec = ModelSpec("hash", "hash", 10, "labels.json", GEOMETRY, engine)
    return ModelBundle.write(folder, spec, tuple(f"label {n}" for n in range(10)))


@pytest.fixture(scope="session")
def certificate(tmp_path_factory, require):
    """A self-signed certificate and its key."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "certificate.pem", folder / "key.pem"
    asked = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1")
    command = [require("openssl"), "req", *asked, *names, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return {"certificate_file": files[0], "private_key_file": files[1]}


def engine_of(deployment):
    """The engine of a deployment, behind the check of its answers."""
    return deployment.runner._engine.engine


class Running:
    """A running server as its client sees it: `url`, a `session`; and from inside: `service`, `engine`."""

    def __init__(self, service, url, session, stack):
        self.service, self.url, self.session, self._stack = service, url, session, stack

    @functools.cached_property
    def engine(self):
        return engine_of(next(iter(self.service.context.store)))

    @property
    def address(self):
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    async def connect(self):
        """A raw connection, reader and writer, that is closed with the test."""
        reader, writer = await asyncio.open_connection(*self.address)

        async def close():
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

        self._stack.push_async_callback(close)
        return reader, writer

    def post(self, data=None, path="/classify", **options):
        return self.session.post(self.url + path, data=data, **options)

    async def metric(self, name):
        """The value of one line of /metrics, 0 when it is not there."""
        async with self.session.get(self.url + "/metrics") as response:
            lines = (await response.text()).splitlines()
        return float(next((line.rpartition(" ")[2] for line in lines if line.startswith(name)), 0))


@pytest.fixture
async def start(hash_bundle):
    """Starts servers: `await start(queue_limit=3)` takes any option by its name."""
    async with contextlib.AsyncExitStack() as stack:

        async def run(bundles=None, load=True, **options):
            config, listening = open_listeners(make_config(port=0, **options))
            service = Service(config, bundles or {"hash": hash_bundle})
            await service.start(listening)
            stack.push_async_callback(finish, service)
            if load:
                await service.load()
                service.watch_loop()
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return Running(service, "http://{}:{}".format(*listening[0].getsockname()), session, stack)

        async def finish(service):
            for deployment in service.context.store:
                if deployment.model.facts.num_classes:  # of a program there is none
                    engine_of(deployment).gate.set()
            if not service.context.draining:
                await service.drain()
            await service.close()

        yield run


def make_config(**options):
    """A Config from options by name; batches do not wait unless asked to."""
    # A test holds the engine for as long as it likes, which is no overload.
    options = {"batch_timeout_ms": 0.0, "drain_timeout_s": 10.0, "target_latency_ms": "off", **options}
    names = {kind: {field.name for field in dataclasses.fields(kind)} for kind in SECTIONS.values()}
    assert set(options) <= set().union(*names.values())
    return Config(
        **{
            section: kind(**{name: value for name, value in options.items() if name in names[kind]})
            for section, kind in SECTIONS.items()
        }
    )


async def problem_of(response, status):
    """Checks that an answer is a well-formed problem of that status, and returns it."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    assert response.headers["Server"].startswith("snapserve/")
    problem = json.loads(text)
    assert problem["status"] == status
    assert problem["request_id"] == response.headers["X-Request-ID"]
    assert {"type", "title", "detail"} <= problem.keys()
    for leak in ("Traceback", "0x", "/etc", "site-packages", "PIL", "aiohttp", "cannot identify"):
        assert leak not in text
    return problem
