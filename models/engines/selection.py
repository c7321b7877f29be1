"""Which engine of a bundle is served on this machine."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from models.bundles.bare import KIND as BARE
from models.bundles.bundle import ModelBundle
from models.bundles.spec import WEIGHTS_ENGINE
from models.bundles.table import Table, best_batch_size
from models.engines import UNSERVABLE
from models.engines.compatibility import misfit
from models.errors import BundleError


@dataclass(frozen=True)
class Choice:
    """What is served of a bundle.

    Attributes:
        bundle: with the engine that runs, and what was measured of it.
        engine: its name in the bundle; "" where it has none.
        batch_size: that was best when the engine was timed.
        table: the optimiser's record.
        notice: one line for the operator, when it is not what the bundle was made for; else "".
    """

    bundle: ModelBundle
    engine: str
    table: Table
    batch_size: int = best_batch_size({})
    notice: str = ""


def choose(bundle: ModelBundle, device: str = "auto", engine: str = "", threads: int = 0) -> Choice:
    """Takes the engine that is asked for, else the bundle's own if it fits this machine, else its weights.

    Args:
        bundle: to be served.
        device: "auto", "cpu" or "cuda".
        engine: name of one of the bundle's engines; "": the bundle's own.
        threads: of the engine; 0: the bundle's.

    Raises:
        BundleError: there is no such engine, or none that can be served here; one line.
    """
    if bundle.spec.engine.kind == BARE:
        return _bare(bundle, engine)
    folder, name = bundle.file.parent, engine or _name_of(bundle)
    chosen = bundle.with_engine(engine) if engine else bundle
    _check_servable(chosen, name)
    reason = misfit(chosen.spec, device)
    if not reason:
        table = Table.read(folder)
        return _measured(chosen, table, name, threads)
    if engine:
        raise BundleError(f"{folder}: engine {name!r}: {reason}")
    again = f"python optimize_model_for_inference.py --bundle {folder} --output {folder} --force"
    if WEIGHTS_ENGINE not in bundle.spec.engines:
        raise BundleError(f"{folder}: {reason}; it has no weights to compile anew: {again}")
    notice = f"{folder}: {reason}; its weights are compiled anew, unquantised. For full speed: {again}"
    return Choice(bundle.with_engine(WEIGHTS_ENGINE), WEIGHTS_ENGINE, Table.read(folder), notice=notice)


def _bare(bundle: ModelBundle, engine: str) -> Choice:
    if engine:
        raise BundleError(f"{bundle.file}: a bare TorchScript file has no engines to choose by --engine")
    return Choice(bundle, "", Table())


def _name_of(bundle: ModelBundle) -> str:
    return next((name for name, engine in bundle.spec.engines.items() if engine == bundle.spec.engine), "")


def _check_servable(bundle: ModelBundle, name: str) -> None:
    if bundle.spec.engine.kind in UNSERVABLE:
        raise BundleError(
            f"{bundle.file}: engine {name!r} holds the interpreter lock and would freeze the server; "
            "`python -m models run` runs it"
        )


def _measured(bundle: ModelBundle, table: Table, name: str, threads: int) -> Choice:
    """With what was measured of its engine at as many threads as it will have here; 0 are the engine's own."""
    engine = bundle.spec.engine
    if threads:
        engine = dataclasses.replace(engine, threads=threads, streams=min(engine.streams, threads))
    latency_ms = table.latency_ms(name, engine) or bundle.spec.latency_ms
    batch_size = best_batch_size(table.fastest_ms(name, engine) or latency_ms)
    spec = dataclasses.replace(bundle.spec, latency_ms=latency_ms)
    return Choice(dataclasses.replace(bundle, spec=spec), name, table, batch_size)
