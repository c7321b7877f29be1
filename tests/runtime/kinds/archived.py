"""Archives as tests serve them: a folder with a handler, and a deployment of its own process."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from models.archives.archive import Archive, Manifest
from models.engines.base import EngineOptions
from runtime.added_model import ArchiveAsked
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.inputs import Fields
from runtime.kinds.handler_items import Front
from runtime.kinds.handler_model import HandlerModel
from runtime.phases import PhaseClock
from runtime.process_runner import ProcessLimits, ProcessRunner
from runtime.processes.spares import Spares

HANDLERS = Path(__file__).parents[2] / "compat" / "archives"


def archive_of(folder, handler, config=None, **described):
    """An archive as if unpacked in `folder`; `described`: serializedFile, modelFile."""
    model = {"modelName": folder.name, "handler": handler, "modelVersion": "1.0", **described}
    document = {
        "createdOn": "25/11/2026 21:47:44",
        "runtime": "python",
        "model": model,
        "archiverVersion": "0.12.0",
    }
    manifest = Manifest(
        folder.name,
        "1.0",
        handler,
        described.get("serializedFile", ""),
        described.get("modelFile", ""),
        document=document,
    )
    return Archive(folder.with_suffix(".mar"), folder, manifest, config or {})


class Observer:
    """Keeps what engines report."""

    def __init__(self):
        self.reports, self.ended = [], []

    def process_ended(self, reason):
        self.ended.append(reason)

    def reported(self, report):
        self.reports += report

    def batch_ran(self, size, seconds):
        pass

    def item_left(self):
        pass

    def item_answered(self, phases_s):
        pass

    def item_failed(self, seconds):
        pass


class Served:
    """A deployment of a handler, and how it is asked."""

    def __init__(self, deployment, observer):
        self.deployment, self.observer = deployment, observer

    async def ask(self, values, headers=None, action="predict", on_part=None, request_id="the-id"):
        """The reply to one request."""
        given = Fields(values, headers or {}, action, on_part, request_id)
        return await self.deployment.infer(given, PhaseClock(time.monotonic))

    async def say(self, text, **more):
        """The reply to a text as body."""
        return await self.ask({"body": text}, **more)


@contextlib.asynccontextmanager
async def serving(archive, spares=None, limit_s=60.0, envelope="", delay_ms=0.0, **asked):
    """Deploys an archive on one process."""
    model = HandlerModel(archive.folder.name, archive, ArchiveAsked(**asked), front=Front(envelope))
    async with deployed(model, spares, limit_s, delay_ms) as served:
        yield served


@contextlib.asynccontextmanager
async def deployed(model, spares=None, limit_s=60.0, delay_ms=0.0):
    """Deploys a model on one process."""
    pool, own, observer = CpuPool(1), spares or Spares(), Observer()
    runner = ProcessRunner(
        model.facts.name, model.recipe(EngineOptions(device="cpu")), ProcessLimits(loaded_spares=0), own, observer
    )
    size = model.facts.max_batch_size
    deployment = Deployment(model, runner, pool, Batching(size, delay_ms, limit=BatchLimit(limit_s)), observer)
    try:
        await deployment.start()
        yield Served(deployment, observer)
    finally:
        await deployment.close()
        if spares is None:
            await own.close()
        pool.close()
