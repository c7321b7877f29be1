"""Clients of torch-serving's API: bodies, answers, and a server that has it on a port of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmark.harness.server import ServerProcess
from benchmark.harness.store import DEMO


class TorchServingServer(ServerProcess):
    """`python -m server` with the demo, and with torch-serving's API on a free port.

    Attributes:
        api: URL of the API.
    """

    def __init__(self, store: Path, *options: str) -> None:
        """Starts the server. store: folder of the models; options: of the command line."""
        super().__init__("--model", str(DEMO), "--model-store", str(store), "--api", "torch-serving=0", *options)
        self.api = self.line("torch-serving on ").split()[-1]

    def __enter__(self) -> Self:
        return self


def serve_path(model: str) -> str:
    """The address of a model."""
    return f"/serve?servable_identifier={quote(model, safe='')}"


def body_of(tensor: NDArray[np.float32]) -> bytes:
    """A request with one tensor."""
    values = np.ascontiguousarray(tensor).reshape(-1)
    argument = {"type": "tensor", "shape": list(tensor.shape), "value": values}
    return orjson.dumps([argument], option=orjson.OPT_SERIALIZE_NUMPY)


def values_of(answer: bytes) -> Sequence[Any]:
    """The numbers of an answer with one tensor. Raises ValueError, KeyError, TypeError: it is none."""
    values: Sequence[Any] = orjson.loads(answer)["result"]["value"]
    return values
