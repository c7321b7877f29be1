"""Prints the project's files that one upload enters, in that order: `python -m tests.end_to_end.trace_request`."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
from pathlib import Path

import aiohttp

from models.machine.process import prepare_process
from server.config import Config, ModelConfig, ServerConfig
from server.model_options import find_bundles
from server.operations.lifecycle import listen
from server.service import Service

ROOT = Path(__file__).parents[2]
IMAGE = next((ROOT / "images").glob("digit-5-*.jpg")).read_bytes()


class Tracer:
    """Notes files, on every thread, while it is on."""

    def __init__(self):
        self.on, self.files = False, {}

    def __call__(self, frame, event, argument):
        if self.on and event == "call":
            file = frame.f_code.co_filename
            if file.startswith(str(ROOT)) and "site-packages" not in file and "/tests/" not in file:
                self.files.setdefault(str(Path(file).relative_to(ROOT)), frame.f_code.co_name)


async def main(tracer):
    config = Config(ModelConfig(model=(str(ROOT / "models/demo"),)), server=ServerConfig(port=0, workers=1))
    service, listening = Service(config, find_bundles(config.models)), listen(config.server)
    await service.start([listening])
    await service.load()
    url = "http://{}:{}/classify".format(*listening.getsockname())
    async with aiohttp.ClientSession() as session:
        for traced in (False, True):
            form = aiohttp.FormData()
            form.add_field("image", IMAGE, filename="5.jpg")
            tracer.on = traced
            async with session.post(url, data=form) as response:
                answer = await response.json()
            tracer.on = False
    assert answer["predictions"][0]["label"] == "5", answer
    await service.drain()
    await service.close()


if __name__ == "__main__":
    prepare_process()
    tracer = Tracer()
    threading.settrace(tracer)
    sys.settrace(tracer)
    asyncio.run(main(tracer))
    print(json.dumps(list(tracer.files.items())))
