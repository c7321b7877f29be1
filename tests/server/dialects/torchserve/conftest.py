"""TorchServe's ports on real sockets: `hash`, an image classifier, and `probe`, which stands in for a handler."""

from __future__ import annotations

import json

import pytest

from tests.server.dialects.torchserve.probe import Probe

ADDRESSES = {"inference_address": "127.0.0.1:0", "metrics_address": "127.0.0.1:0"}


class Ports:
    """A running server as TorchServe's clients see it."""

    def __init__(self, running, probe):
        self.running, self.session, self.probe = running, running.session, probe.engine
        given = running.service.context.config.torchserve
        self.inference, self.metrics = given.inference.url, given.metrics.url

    def ask(self, path, data=None, method="POST", **options):
        """A request to the inference port; a text is sent as text."""
        if isinstance(data, str):
            options["headers"] = {"Content-Type": "text/plain", **options.get("headers", {})}
        return self.session.request(method, self.inference + path, data=data, **options)

    async def answer(self, path, data=None, method="POST", **options):
        """Status and body."""
        async with self.ask(path, data, method, **options) as response:
            return response.status, await response.text()

    async def echo(self, path="/predictions/probe", data=None, **options):
        """What the handler saw."""
        status, text = await self.answer(path, data, **options)
        assert status == 200, text
        return json.loads(text)

    async def show(self, query="", **options):
        """The text of the metrics."""
        async with self.session.get(f"{self.metrics}/metrics{query}", **options) as response:
            assert response.status == 200
            return await response.text()


@pytest.fixture
async def serve(start):
    """Starts servers: `await serve(max_request_size=10)` takes any option by its name; they need no keys."""

    async def run(**options):
        running = await start(**{"torchserve": True, "disable_token_auth": True, **ADDRESSES, **options})
        probe = Probe()
        await running.service.context.store.add("probe", "1.0", probe)
        return Ports(running, probe)

    return run


@pytest.fixture
async def server(serve):
    """A server with the default options, without keys."""
    return await serve()


def error(code, kind, message):
    """What `answer` gives for an error of TorchServe's."""
    return code, json.dumps({"code": code, "type": kind, "message": message}, indent=2) + "\n"
