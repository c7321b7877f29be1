"""What the terminal shows when the server is ready."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL

from models.images.jpeg import decoder
from runtime.sources import Bundles
from server.config import TorchServeConfig
from server.operations.readiness import is_awaited
from snapserve import __version__


def banner(
    models: Sequence[str],
    bundles: Bundles,
    address: tuple[Any, ...],
    seconds: float,
    workers: int = 1,
    root_path: str = "",
    reason: str = "",
    apis: Mapping[str, int | None] | None = None,
    torchserve: TorchServeConfig | None = None,
) -> str:
    """A few lines: where, what, and a command to try.

    Args:
        models: a description of each.
        bundles: what is served.
        address: of the listening socket.
        seconds: that the start took.
        workers: processes that serve.
        reason: why these models are served, or "".
        root_path: under which a proxy serves it; this server answers below it, too.
        apis: the further APIs, and the port of each that has one of its own.
        torchserve: where TorchServe's API listens.
    """
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # where it listens everywhere, here is near
    host = f"[{host}]" if ":" in host else host
    url = f"http://{host}:{port}"
    example = next(iter(bundles.values())).spec.example
    image = example if Path(example).exists() else "YOUR.jpg"
    stops = "torchserve --stop" if is_awaited() else "Ctrl-C"
    facts = [pillow(), f"JPEG by {decoder()}", *([f"{workers} workers"] if workers > 1 else [])]
    return "\n".join(
        [
            f"SnapServe {__version__} on {url} (ready in {seconds:.1f} s, {', '.join(facts)})",
            *models,
            *([f"    {reason}"] if reason else []),
            *(f"  {name} on http://{host}:{own or port}{root_path}" for name, own in (apis or {}).items()),
            *(_torchserve(torchserve) if torchserve and torchserve.is_on else []),
            f"  try: curl -F image=@{image} {url}{root_path}/classify",
            f"  or open {url}{root_path}/ in a browser; {stops} stops",
        ]
    )


def _torchserve(given: TorchServeConfig) -> list[str]:
    keys = "requests need no keys" if given.disable_token_auth else "keys are in key_file.json"
    return [
        f"  TorchServe's inference API on {given.inference.url}, management on {given.management.url}, metrics on "
        f"{given.metrics.url}; {keys}"
    ]


def pillow() -> str:
    """Which of the two packages that are both called PIL this is, and its version."""
    return f"{'Pillow-SIMD' if 'post' in PIL.__version__ else 'Pillow'} {PIL.__version__}"
