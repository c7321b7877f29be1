"""torch-serving's API on a real socket, on a store that opens files of a folder on first use."""

from __future__ import annotations

import contextlib
import io

import aiohttp
import pytest
from aiohttp import web

from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.folder import StoreFolder
from runtime.kinds.tensor_model import open_tensor_model
from runtime.on_demand import OnDemand
from runtime.processes.spares import Spares
from runtime.room import Room
from runtime.runner import ThreadRunner
from runtime.store import ModelStore
from server.dialects.torch_serving.handlers import TorchServing, add_torch_serving
from server.http.answer import around
from server.http.body import BodyReader
from server.http.context import CONTEXT, Context
from server.http.dialect import DIALECTS, Dialects
from server.http.forwarded import Proxies
from server.operations.metrics import Metrics
from tests.server.conftest import make_config


class Running:
    """A running server as its client sees it, and its `context`."""

    def __init__(self, context, url, session, models):
        self.context, self.url, self.session, self.models = context, url, session, models

    def serve(self, name, body, **options):
        """POST /serve; `body` is JSON, or bytes, text or a stream as they are."""
        sent = {"data": body} if isinstance(body, bytes | str | io.IOBase) else {"json": body}
        return self.session.post(f"{self.url}/serve", params={"servable_identifier": name}, **sent, **options)

    async def answer(self, name, body, **options):
        """Its status and JSON."""
        async with self.serve(name, body, **options) as response:
            return response.status, await response.json()


def make_models(root, cpu_pool, opened):
    """The models below a folder, opened on first use.

    Args:
        root: folder of the models.
        cpu_pool: for the deployments.
        opened: gets the name of each model that is opened.
    """
    folder = StoreFolder(root)

    def open_source(name):
        file = folder.resolve(name)
        opened.append(name)
        return open_tensor_model(name, file, Preprocessor)

    def deploy(model, is_resident):
        runner = ThreadRunner(model, EngineOptions(device="cpu", max_batch_size=model.facts.max_batch_size))
        return Deployment(model, runner, cpu_pool, Batching(model.facts.max_batch_size))

    room = Room(deploy)
    return OnDemand(open_source, room), room


@contextlib.asynccontextmanager
async def running(root, **options):
    """Serves the models below a folder; `opened` of the result names each that was opened."""
    config, pool, opened = make_config(**options), CpuPool(1), []
    models, room = make_models(root, pool, opened)
    dialect = TorchServing(models, config.limits, pool)
    app = web.Application(middlewares=[around], client_max_size=0)
    bodies, proxies = BodyReader(config.limits), Proxies((), "")
    app[CONTEXT] = Context(config, ModelStore({}, room), Metrics(), pool, Spares(), bodies, proxies)
    app[DIALECTS] = Dialects(dialect)
    add_torch_serving(app, dialect)
    runner = web.AppRunner(app, handler_cancellation=True, auto_decompress=False)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        async with aiohttp.ClientSession() as session:
            found = Running(app[CONTEXT], "http://{}:{}".format(*runner.addresses[0]), session, models)
            found.opened = opened
            yield found
    finally:
        await runner.cleanup()
        await room.close()
        pool.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder of models, made once."""
    from tests.runtime import programs

    root = tmp_path_factory.mktemp("store")
    for name in MODELS:
        programs.save(getattr(programs, MODELS[name])(), root / f"{name}.pt")
    (root / "notmodel.pt").write_text("no model")
    (root / "folder").mkdir()
    return root


MODELS = {
    "id": "Id",
    "two": "Two",
    "int": "Int",
    "float": "Float",
    "bool": "Bool",
    "str": "Str",
    "list": "TensorList",
    "dict": "TensorDict",
    "zero": "Zero",
    "raises": "Raises",
    "half": "Half",
    "bf16": "BFloat16",
    "none": "Nothing",
    "listint": "ListInt",
    "liststr": "ListStr",
    "dictint": "DictInt",
    "bigint": "BigInt",
    "nested": "Nested",
    "transposed": "Transposed",
    "model-example": "Example",
}


@pytest.fixture
async def server(folder):
    """A server of that folder."""
    async with running(folder) as found:
        yield found
