"""Who takes part, each with the settings that were best where they were measured: docs/benchmark.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.compare.contestant import PORT, Contestant
from models.bundles.bundle import ModelBundle
from models.bundles.table import Table, images_per_s
from models.errors import BundleError
from models.machine.resources import usable_cores

FP32 = "torchscript-fp32"
EAGER = "eager-fp32"


class Shared(NamedTuple):
    """An engine of the bundle that SnapServe and the peers run."""

    name: str
    precision: str


_INT8 = Shared("fx-int8-onednn", "int8")


def shared_engine(bundle: ModelBundle, named: str | None = None) -> Shared:
    """The engine that SnapServe and the peers share: the fastest TorchScript file, which all of them can load.

    Args:
        bundle: where the optimiser has written what it timed.
        named: takes this one instead.

    Raises:
        BundleError: the bundle lacks an engine that the comparison needs, or the named one is no TorchScript file.
    """
    have, table = bundle.spec.engines, Table.read(bundle.file.parent)
    for name in (EAGER, FP32, *([named] if named else [])):
        if name not in have:
            raise BundleError(f"{bundle.file.parent}: has no engine {name}{_why(table, name)}")
    files = {name: engine for name, engine in have.items() if engine.kind == "torchscript"}
    files = {name: engine for name, engine in files.items() if not engine.holds_weights}
    if named and named not in files:
        raise BundleError(f"--shared {named}: the peers load TorchScript files only: {', '.join(files)}")

    def worth(name: str) -> tuple[float, bool]:
        return images_per_s(table.fastest_ms(name, files[name])), files[name].precision == "int8"

    name = named or max(files, key=worth)
    return Shared(name, files[name].precision)


def engine_name(bundle: ModelBundle) -> str:
    """The name in the bundle of the engine that it serves by default; "" where it has only one."""
    return next((name for name, engine in bundle.spec.engines.items() if engine == bundle.spec.engine), "")


def _why(table: Table, name: str) -> str:
    reason = table.refusal(name)
    return f": {reason}" if reason else "; optimise it anew"


def all_contestants(bundle: Path, shared: Shared = _INT8) -> list[Contestant]:
    """SnapServe on its own choice and on the peers' engines, and the peers.

    Args:
        bundle: folder.
        shared: engine that SnapServe and the peers run.
    """
    return [*_snapserve(bundle, shared), *_peers(bundle, shared.name)]


def _snapserve(bundle: Path, shared: Shared) -> list[Contestant]:
    words = ("-m", "server", "--port", PORT, "--model", str(bundle))
    same_file = Contestant(f"snapserve-{shared.precision}-torchscript", (*words, "--engine", shared.name))
    return [
        Contestant("snapserve", words),
        Contestant("snapserve-one-worker", (*words, "--workers", "1")),
        *([same_file] if shared.name != FP32 else []),
        Contestant("snapserve-fp32", (*words, "--engine", FP32)),
    ]


def _peers(bundle: Path, shared: str) -> list[Contestant]:
    cores = str(usable_cores())
    # OpenMP's threads would spin for 0.2 s after each batch, on the cores that decode the next one.
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # The allocator keeps the memory of one batch for the next, as SnapServe's does: docs/performance.md.
    keep = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    model = {**threads, **keep, "PEER_BUNDLE": str(bundle), "PEER_ENGINE": shared}
    eager = {**threads, "PEER_BUNDLE": str(bundle), "PEER_ENGINE": EAGER}
    at = ("--port", PORT)
    litserve = ("-m", "benchmark.peers.litserve", *at, "--workers", cores)
    mosec = ("-m", "benchmark.peers.mosec", "--address", "127.0.0.1", "--timeout", "60000", *at)
    return [
        Contestant("fastapi-plain", _gunicorn("fastapi_plain", cores), eager, "fastapi"),
        Contestant(
            "ancestor",
            ("-m", "uvicorn", "benchmark.peers.ancestor:app", "--log-level", "warning", *at),
            {"PEER_BUNDLE": str(bundle), "PEER_ENGINE": EAGER, "PEER_THREADS": cores},
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
