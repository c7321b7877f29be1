"""LitServe with batches: decode and inference in its worker processes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import litserve

from benchmark.peers.model import PeerModel
from models.images.preprocess import Pixels


class Classifier(litserve.LitAPI):
    """Decodes per request, or the whole batch on threads."""

    def __init__(self, decode_threads: int, **options: Any) -> None:
        super().__init__(**options)
        self._decode_threads = decode_threads

    def setup(self, device: str) -> None:
        """Loads the model in a worker."""
        self._model = PeerModel()
        self._model.warm_up(self.max_batch_size)
        self._pool = ThreadPoolExecutor(self._decode_threads) if self._decode_threads else None

    def decode_request(self, request):  # without types: LitServe would take them for the body's schema
        """The pixels, or the bytes where the pool decodes."""
        data: bytes = request["image"].file.read()
        return data if self._pool else self._model.preprocess(data)

    def batch(self, inputs: list[Any]) -> list[Pixels]:
        """A batch of pixels."""
        return list(self._pool.map(self._model.preprocess, inputs)) if self._pool else inputs

    def predict(self, batch: Sequence[Pixels]) -> list[dict[str, Any]]:
        """Answers to a batch."""
        return self._model.infer(batch)

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The answers as they are."""
        return output

    def encode_response(self, output):  # likewise
        """The answer as it is."""
        return output


def main() -> None:
    """Runs the server."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--api-servers", type=int, default=1)
    parser.add_argument("--max-batch-size", type=int, default=8)
    parser.add_argument("--batch-timeout-ms", type=float, default=5)
    parser.add_argument("--decode-threads", type=int, default=0, help="0: in decode_request")
    parser.add_argument("--fast-queue", action=argparse.BooleanOptionalAction, default=False)
    options = parser.parse_args()
    classifier = Classifier(
        options.decode_threads,
        max_batch_size=options.max_batch_size,
        batch_timeout=options.batch_timeout_ms / 1000,
        api_path="/classify",
    )
    server = litserve.LitServer(
        classifier,
        accelerator="cpu",
        workers_per_device=options.workers,
        fast_queue=options.fast_queue,
        timeout=60,
    )
    server.run(
        host="127.0.0.1",
        port=options.port,
        num_api_servers=options.api_servers,
        log_level="warning",
        generate_client_file=False,
    )


if __name__ == "__main__":
    main()
