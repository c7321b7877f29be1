"""The handler of TorchServe as a peer: a batch of uploaded files -> answers."""

from __future__ import annotations

import os
from typing import Any

from benchmark.peers.model import PeerModel


class Classify:
    """Decodes and infers a batch, one after the other: TorchServe gives a handler one thread."""

    def initialize(self, context: Any) -> None:
        """Loads and warms up the model. context: TorchServe's."""
        self._model = PeerModel()
        self._model.warm_up(int(os.environ.get("PEER_MAX_BATCH_SIZE", "8")))

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[dict[str, Any]]:
        """The answers to the form field `image` of each request."""
        return self._model.infer([self._model.preprocess(bytes(row["image"])) for row in data])
