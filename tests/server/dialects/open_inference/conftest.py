"""The Open Inference Protocol on a real socket: an image classifier `hash`, and programs of any signature."""

from __future__ import annotations

import io
import json

import pytest

from runtime.added_model import TENSOR, AddedModel
from runtime.model_set import ModelSet
from tests.conftest import flat

# File -> its program in tests/runtime/programs.py, and its settings.
PROGRAMS = {
    "id": ("Id", {}),
    "sums": (
        "SumAndDifference",
        {"inputs": [{"name": "A", "datatype": "INT32", "shape": [-1, 4]}, {"name": "B"}]},
    ),
    "m": ("Described", {"outputs": [{"name": "OUT", "datatype": "FP32"}, {"name": "TXT", "datatype": "BYTES"}]}),
    "repeated": ("Repeated", {}),
    "dict": ("DictOut", {}),
    "bf16": ("BFloat16", {}),
    "complex": ("Complex", {}),
    "raises": ("Raises", {}),
    "joined": ("Id", {"max_batch_size": 8}),
}


@pytest.fixture(scope="session")
def programs_folder(tmp_path_factory):
    """A folder of programs, made once."""
    from tests.runtime import programs

    folder = tmp_path_factory.mktemp("programs")
    for name, (program, settings) in PROGRAMS.items():
        programs.save(getattr(programs, program)(), folder / f"{name}.pt")
        if settings:
            (folder / f"{name}.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture
def serve(start, programs_folder):
    """Starts a server with some of the programs: `await serve("id", "m")` takes options like `start`."""

    async def run(*names, **options):
        added = [AddedModel(each, "1", f"{each}.pt", kind=TENSOR, runner="thread") for each in names]
        models = ModelSet(("hash",))
        for each in added:
            models = models.with_model(each)
        server = await start(model_store=str(programs_folder), engine_spares=0, **options)
        await server.service.control.prepare(models)
        await server.service.control.commit()
        return server

    return run


def image_request(*images, **members):
    """A request as JSON and bytes, and its headers: encoded images for `hash`."""
    data = b"".join(len(each).to_bytes(4, "little") + each for each in images)
    given = {"name": "image", "shape": [len(images)], "datatype": "BYTES"}
    return binary_request([{**given, "data": data}], **members)


def binary_request(inputs, **members):
    """Inputs whose `data` is bytes are sent behind the JSON."""
    inputs = [dict(each) for each in inputs]
    tail = [each.pop("data") for each in inputs if isinstance(each.get("data"), bytes)]
    rest = iter(tail)
    for each in inputs:
        if "data" not in each:
            each["parameters"] = {"binary_data_size": len(next(rest))}
    head = json.dumps({"inputs": inputs, **members}).encode()
    return head + b"".join(tail), {"Inference-Header-Content-Length": str(len(head))}


async def infer(server, model, request, **headers):
    """Status, JSON, and the bytes behind it. A request is JSON, or what `binary_request` makes."""
    body, given = request if isinstance(request, tuple) else (json.dumps(request).encode(), {})
    path, data = f"/v2/models/{model}/infer", io.BytesIO(body)
    options = {"headers": {**given, **headers}, "skip_auto_headers": ["Content-Type"]}
    async with server.post(data, path, **options) as response:
        text = await response.read()
        size = int(response.headers.get("Inference-Header-Content-Length", len(text)))
        return response.status, json.loads(text[:size]), text[size:]


async def refused(server, model, request, status=400, **headers):
    """The text of a request's error."""
    found, document, _ = await infer(server, model, request, **headers)
    assert (found, list(document)) == (status, ["error"]), document
    return document["error"]


GREY = [flat(value) for value in range(10, 60, 10)]
