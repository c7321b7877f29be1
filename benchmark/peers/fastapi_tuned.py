"""FastAPI done well, without batching: SnapServe's preprocessing and TorchScript file, on a pool of threads."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fastapi import FastAPI, UploadFile

from benchmark.peers.model import PeerModel

model = PeerModel()
model.warm_up()
pool = ThreadPoolExecutor(int(os.environ.get("PEER_POOL", "1")))
app = FastAPI()


@app.post("/classify", response_model=None)
async def classify(image: UploadFile) -> dict[str, Any]:
    """Decodes and infers on one thread of the pool."""
    data = await image.read()
    return await asyncio.get_running_loop().run_in_executor(pool, _classify, data)


def _classify(data: bytes) -> dict[str, Any]:
    return model.infer([model.preprocess(data)])[0]
