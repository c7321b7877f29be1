"""mosec: a stage of decoding processes, then a stage of inferring processes with dynamic batching.

Its front end, in Rust, hands the raw body to the first stage, which takes the form apart.
"""

from __future__ import annotations

import os
from typing import Any

import msgspec
import numpy as np
from mosec import Server, Worker

from benchmark.peers.model import PeerModel, named_bundle
from models.images.preprocess import Pixels, Preprocessor

# mosec has its own command line; what it does not know comes from the environment.
DECODERS = int(os.environ.get("PEER_DECODERS", "2"))
WORKERS = int(os.environ.get("PEER_WORKERS", "2"))
MAX_BATCH_SIZE = int(os.environ.get("PEER_MAX_BATCH_SIZE", "8"))
MAX_WAIT_MS = int(os.environ.get("PEER_MAX_WAIT_MS", "1"))


class Decode(Worker):
    """Multipart body -> pixels."""

    def __init__(self) -> None:
        spec = named_bundle().spec.preprocess
        self._preprocess = Preprocessor(spec)

    def deserialize(self, data: bytes) -> bytes:
        """The file in the form."""
        return _only_file(data)

    def forward(self, data: bytes) -> bytes:
        """Its pixels."""
        return self._preprocess(data).tobytes()

    def serialize_ipc(self, data: bytes) -> bytes:
        """The bytes as they are."""
        return data


class Infer(Worker):
    """A batch of pixels -> answers."""

    def __init__(self) -> None:
        self._model = PeerModel()
        self._model.warm_up(MAX_BATCH_SIZE)
        side = named_bundle().spec.preprocess.crop_size
        self._shape = (side, side, 3)

    def deserialize_ipc(self, data: bytes) -> Pixels:
        """The pixels."""
        return np.frombuffer(data, np.uint8).reshape(self._shape)

    def forward(self, batch: Any) -> Any:
        """Answers to a batch, or to one image."""
        return self._model.infer(batch) if isinstance(batch, list) else self._model.infer([batch])[0]

    def serialize(self, answer: dict[str, Any]) -> bytes:
        """JSON."""
        return msgspec.json.encode(answer)


class DecodeAndInfer(Infer):
    """Both in one stage, without copies between processes: chosen by PEER_DECODERS=0."""

    def deserialize(self, data: bytes) -> Pixels:
        """The pixels of the file in the form."""
        return self._model.preprocess(_only_file(data))


def _only_file(body: bytes) -> bytes:
    """The content of a form's only part."""
    boundary = body[: body.index(b"\r\n")]
    start = body.index(b"\r\n\r\n") + 4
    return body[start : body.rindex(b"\r\n" + boundary)]


def main() -> None:
    """Runs the server."""
    server = Server()
    if DECODERS:
        server.append_worker(Decode, DECODERS, route="/classify")
    server.append_worker(
        Infer if DECODERS else DecodeAndInfer, WORKERS, MAX_BATCH_SIZE, MAX_WAIT_MS, route="/classify"
    )
    server.run()


if __name__ == "__main__":
    main()
