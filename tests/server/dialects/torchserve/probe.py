"""A model that stands in for a handler: what it does is said by the text of a request."""

from __future__ import annotations

import asyncio
import json
import threading
import time

from models.bundles.spec import EngineSpec
from runtime.errors import EngineDied, HandlerFailed
from runtime.inputs import Fields, JsonText, Part
from runtime.model import EngineFacts, ModelFacts
from runtime.outputs import Reply


class Probe:
    """Takes Fields, gives Replies; the engine runs on a thread."""

    example_file = ""

    def __init__(self, name="probe", version="1.0"):
        self.facts = ModelFacts(name, "handler", "handler", "none", 0, 4, version=version)
        self.engine = ProbeEngine(asyncio.get_running_loop())

    def prepare(self, given, stop=None, /):
        assert isinstance(given, Fields)
        return given

    def example(self):
        return None

    def load(self, options):
        return self.engine

    def finish(self, row):
        return row

    def describe(self, engine):
        return self.facts.name

    def document(self, engine, whole):
        return {"name": self.facts.name}


class ProbeEngine:
    """`gate` holds a batch while it is cleared; `seen` gets every request."""

    def __init__(self, loop):
        self.facts = EngineFacts(EngineSpec("probe", "", "", device="cpu"))
        self.engine = self  # where the fixtures look for the gate
        self.gate, self.seen = threading.Event(), []
        self.gate.set()
        self.running = threading.Event()
        self.flooded_mb = 0
        self._loop = loop

    def infer(self, batch):
        self.running.set()
        return [self._one(fields) for fields in batch]

    def _one(self, fields):
        self.seen.append(fields)
        body = fields.values.get("body", b"")
        word, *rest = (body if isinstance(body, str) else "echo").split(":")
        return getattr(self, f"_{word}")(fields, *rest)

    def _echo(self, fields):
        values = {name: _shown(value) for name, value in fields.values.items()}
        seen = {"values": values, "headers": fields.headers, "action": fields.action}
        return Reply(json.dumps(seen).encode())

    def _raise(self, fields, why, code="0", message=""):
        raise HandlerFailed(why, int(code), message)

    def _die(self, fields):
        raise EngineDied("ended")

    def _status(self, fields, code, reason=None):
        return Reply(b"mine", status=int(code), reason=reason)

    def _headers(self, fields):
        bad = (("Content-Length", "7"), ("X-B", "a\r\nX-C: 1"), ("X D", "1"))
        return Reply(b"a,b", "text/csv", headers=(("X-A", "1"), *bad))

    def _wait(self, fields):
        assert self.gate.wait(30), "the test forgot to open the gate"
        return Reply(b"waited")

    def _stream(self, fields, size="1", then="", status="201"):
        for number in range(3):
            body, headers = f"part{number} ".encode() * int(size), (("Content-Type", "text/plain"),)
            self._give(fields, Part(body, int(status), headers))
            if then == "wait" and number == 0:
                assert self.gate.wait(30), "the test forgot to open the gate"
        if then == "raise":
            raise HandlerFailed("raised")
        return Reply(b"last")

    def _length(self, fields, size):
        return Reply(b"x" * int(size))

    def _grow(self, fields, size):
        for body in (b"part", b"x" * int(size)):
            self._give(fields, Part(body, 201))
        return Reply(b"last")

    def _flood(self, fields):
        self.gate.clear()
        while not self.gate.is_set():
            self.flooded_mb += 1
            self._give(fields, Part(b"x" * 1_000_000))
            time.sleep(0)
        return Reply(b"")

    def _give(self, fields, part):
        if fields.on_part:
            asyncio.run_coroutine_threadsafe(_call(fields.on_part, part), self._loop).result()

    def warm_up(self):
        pass

    def close(self):
        pass


async def _call(function, part):
    function(part)


def _shown(value):
    if isinstance(value, JsonText):
        return ["JsonText", bytes(value.data).decode("latin-1")]
    return (
        ["bytes", bytes(value).decode("latin-1")] if isinstance(value, bytes | bytearray | memoryview) else value
    )
