"""Handlers in processes of their own, as clients of TorchServe's API see them."""

from __future__ import annotations

import asyncio
import json

import pytest

from runtime.added_model import ArchiveAsked
from runtime.kinds.handler_model import HandlerModel
from tests.runtime.kinds.archived import archive_of

STEPS = """
import itertools, os, time
from pathlib import Path
from ts.handler_utils.utils import send_intermediate_predict_response as send

class Steps:
    def initialize(self, context):
        self.folder = Path(context.system_properties["model_dir"])

    def handle(self, data, context):
        texts = [row["body"] for row in data]
        if "raise" in texts:
            raise ValueError("secret")
        if "step" not in texts:
            context.metrics.add_counter("texts_seen", len(data))
            return [f"{len(data)} {os.getpid()}" for _ in data]
        try:
            for number in itertools.count():  # until the client has left
                context.set_response_content_type(0, "text/plain")
                send([f"{number} "], context.request_ids, "", 201, context)
                while not (self.folder / f"go{number}").exists():
                    if (self.folder / "hurry").exists():
                        break
                    time.sleep(0.005)
                if (self.folder / f"end{number}").exists():
                    return ["end"]
        except Exception as error:
            (self.folder / "ended").write_text(type(error).__name__)
            raise
"""


@pytest.fixture
async def steps(serve, tmp_path):
    """A server with the handler above, and its folder."""
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "steps_handler.py").write_text(STEPS)
    server = await serve(batch_timeout_ms=300)
    model = HandlerModel(
        "steps", archive_of(folder, "steps_handler.py"), ArchiveAsked(batch_size=4), version="1.0"
    )
    store = server.running.service.context.store
    await store.add("steps", "1.0", model)
    yield server, folder
    (folder / "hurry").touch()
    await store.remove("steps", "1.0")


async def test_a_text_is_seen_part_by_part(steps):
    server, folder = steps
    async with server.ask("/predictions/steps", "step") as response:
        assert (response.status, response.content_type) == (201, "text/plain")
        assert await response.content.readany() == b"0 "
        (folder / "go0").touch()
        assert await response.content.readany() == b"1 "
        (folder / "end1").touch()
        (folder / "go1").touch()
        assert await response.read() == b"end"


async def test_a_client_that_leaves_in_the_middle_frees_the_process(steps):
    server, folder = steps
    _, before = await server.answer("/predictions/steps", "hello")
    async with server.ask("/predictions/steps", "step") as response:
        await response.content.readany()
        response.close()
    (folder / "hurry").touch()
    status, after = await server.answer("/predictions/steps", "hello")
    assert (status, after) == (200, before)
    assert (folder / "ended").read_text() == "ClientLeft"


async def test_neighbours_of_a_request_that_fails_are_answered(steps):
    server, _ = steps
    texts = ["a", "raise", "b", "c"]
    answers = await asyncio.gather(*(server.answer("/predictions/steps", text) for text in texts))
    assert [status for status, _ in answers] == [200, 503, 200, 200]
    message = {"code": 503, "type": "InternalServerException", "message": "Prediction failed"}
    assert json.loads(answers[1][1]) == message
    shown = await server.show("?name[]=texts_seen")
    assert 'texts_seen_total{Level="Model",ModelName="steps"} 3.0' in shown
