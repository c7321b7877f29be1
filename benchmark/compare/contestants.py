"""Who takes part, each with the settings that were best where they were measured: docs/benchmark.md."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path

from benchmark.compare.contestant import PORT, Contestant
from models.bundle import ModelBundle
from models.errors import BundleError
from models.machine import usable_cores

# The graphs that TorchScript peers load, and the fp32 one, by preference.
INT8 = ("fx-int8-onednn", "fx-int8-x86")
FP32 = ("torchscript-fp32",)


def all_contestants(bundle: Path, int8: str | None = None) -> list[Contestant]:
    """SnapServe on three engines, and the peers.

    Args:
        bundle: folder.
        int8: engine that SnapServe and the peers share; default: the first of `INT8` that the bundle has.

    Raises:
        BundleError: the bundle lacks an engine.
    """
    have = ModelBundle.load(bundle).spec.engines
    shared = int8 or _first(INT8, have, bundle)
    fp32 = _first(FP32, have, bundle)
    return [*_snapserve(bundle, shared, fp32), *_peers(bundle, shared)]


def _first(names: Sequence[str], have: Container[str], bundle: Path) -> str:
    for name in names:
        if name in have:
            return name
    raise BundleError(f"{bundle}: has none of the engines {', '.join(names)}; optimise it anew")


def _snapserve(bundle: Path, int8: str, fp32: str) -> list[Contestant]:
    words = ("-m", "server", "--port", PORT, "--model", str(bundle))
    return [
        Contestant("snapserve", words),
        Contestant("snapserve-one-worker", (*words, "--workers", "1")),
        Contestant("snapserve-int8-torchscript", (*words, "--engine", int8)),
        Contestant("snapserve-fp32", (*words, "--engine", fp32)),
    ]


def _peers(bundle: Path, int8: str) -> list[Contestant]:
    cores = str(usable_cores())
    # OpenMP's threads would spin for 0.2 s after each batch, on the cores that decode the next one.
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # The allocator keeps the memory of one batch for the next, as SnapServe's does: docs/performance.md.
    keep = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    model = {**threads, **keep, "PEER_BUNDLE": str(bundle), "PEER_ENGINE": int8}
    eager = {**threads, "PEER_BUNDLE": str(bundle), "PEER_ENGINE": "eager-fp32"}
    at = ("--port", PORT)
    litserve = ("-m", "benchmark.peers.litserve", *at, "--workers", cores)
    mosec = ("-m", "benchmark.peers.mosec", "--address", "127.0.0.1", "--timeout", "60000", *at)
    return [
        Contestant("fastapi-plain", _gunicorn("fastapi_plain", cores), eager, "fastapi"),
        Contestant(
            "ancestor",
            ("-m", "uvicorn", "benchmark.peers.ancestor:app", "--log-level", "warning", *at),
            {"PEER_BUNDLE": str(bundle), "PEER_ENGINE": "eager-fp32", "PEER_THREADS": cores},
            "fastapi",
        ),
        Contestant("ancestor-workers", _gunicorn("ancestor", cores), eager, "fastapi"),
        Contestant("fastapi-tuned", _gunicorn("fastapi_tuned", cores), model, "fastapi"),
        Contestant("litserve", litserve, model, "litserve"),
        Contestant("litserve-16", (*litserve, "--max-batch-size", "16"), model, "litserve"),
        Contestant("mosec", mosec, {**model, "PEER_WORKERS": cores, "PEER_DECODERS": cores}, "mosec"),
        Contestant("mosec-one-stage", mosec, {**model, "PEER_WORKERS": cores, "PEER_DECODERS": "0"}, "mosec"),
        Contestant(
            "bentoml",
            ("-m", "bentoml", "serve", "benchmark.peers.bentoml:Classifier", "--host", "127.0.0.1", *at),
            {**model, "PEER_WORKERS": cores, "BENTOML_DO_NOT_TRACK": "True"},
            "bentoml",
        ),
    ]


def _gunicorn(app: str, workers: str) -> tuple[str, ...]:
    # Without a time limit: the master would kill workers that were halted between their turns.
    words = ("-m", "gunicorn", f"benchmark.peers.{app}:app", "--worker-class", "uvicorn_worker.UvicornWorker")
    return (*words, "--bind", f"127.0.0.1:{PORT}", "--timeout", "0", "--workers", workers)


def chosen(everybody: Sequence[Contestant], names: Sequence[str], variants: Sequence[str]) -> list[Contestant]:
    """Those that are named, and the variants.

    Args:
        everybody: who there is.
        names: those that take part; none for all.
        variants: each "NAME=BASE OPTIONS…", where BASE is one of `everybody`.

    Raises:
        ValueError: there is none of that name.
    """
    known = {each.name: each for each in everybody}
    for variant in variants:
        name, _, change = variant.partition("=")
        base, _, words = change.partition(" ")
        known[name] = _known(known, base).variant(name, words)
    return [_known(known, name) for name in names or known]


def _known(known: dict[str, Contestant], name: str) -> Contestant:
    if name not in known:
        raise ValueError(f"there is no contestant {name!r}; there are {', '.join(known)}")
    return known[name]
