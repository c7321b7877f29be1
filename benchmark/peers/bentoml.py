"""BentoML with its adaptive batching: every worker process decodes and infers its own batches."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import bentoml

from benchmark.peers.model import PeerModel

MAX_BATCH_SIZE = int(os.environ.get("PEER_MAX_BATCH_SIZE", "16"))
MAX_LATENCY_MS = int(os.environ.get("PEER_MAX_LATENCY_MS", "10000"))


@bentoml.service(workers=int(os.environ.get("PEER_WORKERS", "2")), traffic={"timeout": 60})
class Classifier:
    """A batch of uploaded files -> answers."""

    def __init__(self) -> None:
        self._model = PeerModel()
        self._model.warm_up(MAX_BATCH_SIZE)
        self._pool = ThreadPoolExecutor(int(os.environ.get("PEER_POOL", "1")))

    @bentoml.api(route="/classify", batchable=True, max_batch_size=MAX_BATCH_SIZE, max_latency_ms=MAX_LATENCY_MS)
    def classify(self, image: list[Path]) -> list[dict[str, Any]]:
        """BentoML stores uploads as files, and deletes them after the answer."""
        pixels = self._pool.map(self._model.preprocess, (file.read_bytes() for file in image))
        return self._model.infer(list(pixels))
