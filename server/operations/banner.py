"""What the terminal shows when the server is ready."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import PIL

from models.images.jpeg import decoder
from runtime.store import Bundles, Catalog
from snapserve import __version__


def banner(
    models: Sequence[str],
    bundles: Bundles,
    address: tuple[Any, ...],
    seconds: float,
    workers: int = 1,
    root_path: str = "",
    reason: str = "",
) -> str:
    """A few lines: where, what, and a command to try.

    Args:
        models: a description of each, by `describe`.
        bundles: what is served.
        address: of the listening socket.
        seconds: that the start took.
        workers: processes that serve.
        reason: why these models are served, or "".
        root_path: under which a proxy serves it; this server knows it with that path, too.
    """
    host, port = address[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # where it listens everywhere, here is near
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    example = next(iter(bundles.values())).spec.example
    picture = example if Path(example).exists() else "YOUR.jpg"
    facts = [pillow(), f"JPEG by {decoder()}", *([f"{workers} workers"] if workers > 1 else [])]
    return "\n".join(
        [
            f"SnapServe {__version__} on {url} (ready in {seconds:.1f} s, {', '.join(facts)})",
            *models,
            *([f"    {reason}"] if reason else []),
            f"  try: curl -F image=@{picture} {url}{root_path}/classify",
            f"  or open {url}{root_path}/ in a browser; Ctrl-C stops",
        ]
    )


def pillow() -> str:
    """Which of the two packages that are both called PIL this is, and its version."""
    return f"{'Pillow-SIMD' if 'post' in PIL.__version__ else 'Pillow'} {PIL.__version__}"


def describe(name: str, catalog: Catalog) -> str:
    """A line about a loaded model, and one for each warning."""
    classifier = catalog.loaded(name)
    assert classifier is not None
    spec, engine, notice = classifier.bundle.spec, classifier.engine.spec, catalog.choices[name].notice
    threads = f"{engine.threads} thread{'s' if engine.threads > 1 else ''}, " if engine.threads else ""
    line = (
        f"  {name}: {spec.architecture}, {spec.num_classes} classes, {engine.precision} on {engine.device} "
        f"({engine.kind}, {threads}batches up to {engine.max_batch_size})"
    )
    random = "random weights, its labels mean nothing" if spec.is_random else ""
    notices = getattr(classifier.engine, "notices", ())
    return "\n  WARNING: ".join(filter(None, (f"{line}\n    {classifier.preparation}", notice, random, *notices)))
