"""The servers that are compared, with the settings that were best where they were measured: docs/benchmark.md."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.compare.bundle import EAGER, FP32, Shared
from benchmark.harness.server import PORT, ROOT, CandidateServer
from benchmark.peers.environment import Environment
from models.machine.resources import usable_cores

_OWN = ("SNAPSERVE_", "PEER_", "OMP_", "KMP_", "MKL_", "BENTOML_")
_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")
_INT8 = Shared("fx-int8-onednn", "int8")


@dataclass(frozen=True)
class Candidate:
    """A server's command line.

    Attributes:
        name: in the table.
        module: words after the interpreter, with `PORT` in the port's place.
        variables: further environment variables.
        environment: name of the peer's virtual environment; None for the project's own.
        checkout: folder of the project, or of another version of it, that the server is started in.
        base: path before `/classify`.
        is_extra: whether it takes part only where it is named.
    """

    name: str
    module: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    checkout: Path = ROOT
    base: str = ""
    is_extra: bool = False

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if self.environment:
            return Environment(self.environment).python
        own = self.checkout / ".venv" / "bin" / "python"
        return own if self.checkout != ROOT and own.exists() else Path(sys.executable)

    def words(self, port: int) -> list[str]:
        """The command line."""
        return [str(self.python), *(word.replace(PORT, str(port)) for word in self.module)]

    def surroundings(self) -> dict[str, str]:
        """All environment variables; of those that change a server only the candidate's own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        return {**inherited, "PYTHONUNBUFFERED": "1", **self.variables}

    def start(self, image: Path) -> CandidateServer:
        """Starts it and waits until it answers `image`. Raises ServerFailed where it does not."""
        return CandidateServer(self.words, self.checkout, self.surroundings(), image, self.base)

    def shown(self) -> str:
        """The command as it may be typed in the project's folder."""
        here = self.checkout
        variables = [f"{name}={shlex.quote(relative(value, here))}" for name, value in self.variables.items()]
        python = relative(str(self.python), here)
        python = "python" if Path(python).is_absolute() else python
        there = [] if here == ROOT else ["cd", shlex.quote(os.path.relpath(here, ROOT)), "&&"]
        words = (relative(word, here) for word in self.module)
        return " ".join([*there, *variables, python, *(w if PORT in w else shlex.quote(w) for w in words)])

    def variant(self, name: str, change: str) -> Candidate:
        """The same with further words: `NAME=VALUE` in capitals is a variable, all others are options.

        `CHECKOUT=FOLDER` starts it in another checkout of the project, with the environment that is there, if any.

        Raises:
            ValueError: there is no such checkout.
        """
        words = shlex.split(change)
        variables = dict(word.split("=", 1) for word in words if _VARIABLE.match(word))
        options = [word for word in words if not _VARIABLE.match(word)]
        checkout = Path(variables.pop("CHECKOUT", self.checkout)).resolve()
        if not (checkout / "server").is_dir():
            raise ValueError(f"CHECKOUT={checkout}: holds no checkout of the project")
        return dataclasses.replace(
            self,
            name=name,
            module=(*self.module, *options),
            variables={**self.variables, **variables},
            checkout=checkout,
        )


def relative(text: str, folder: Path = ROOT) -> str:
    """A file of the project, or of `folder`, as it is seen from `folder`; any other text as it is."""
    ours = text.startswith((f"{ROOT}{os.sep}", f"{folder}{os.sep}"))
    return os.path.relpath(text, folder) if ours else text


def all_candidates(bundle: Path, shared: Shared = _INT8) -> list[Candidate]:
    """SnapServe on its own choice and on the peers' engines, and the peers.

    Args:
        bundle: folder.
        shared: engine that SnapServe and the peers run.
    """
    return [*_snapserve(bundle, shared), *_peers(bundle, shared.name)]


def _snapserve(bundle: Path, shared: Shared) -> list[Candidate]:
    words = ("-m", "server", "--port", PORT, "--model", str(bundle))
    same_file = Candidate(f"snapserve-{shared.precision}-torchscript", (*words, "--engine", shared.name))
    return [
        Candidate("snapserve", words),
        Candidate("snapserve-one-worker", (*words, "--workers", "1")),
        *([same_file] if shared.name != FP32 else []),
        Candidate("snapserve-fp32", (*words, "--engine", FP32)),
    ]


def _peers(bundle: Path, shared: str) -> list[Candidate]:
    cores = str(usable_cores())
    # OpenMP's threads would spin for 0.2 s after each batch, on the cores that decode the next one.
    threads = {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    # The allocator keeps the memory of one batch for the next, as SnapServe's does: docs/performance.md.
    keep = {"MALLOC_TRIM_THRESHOLD_": str(256 << 20), "MALLOC_MMAP_THRESHOLD_": str(32 << 20)}
    model = {**threads, **keep, "PEER_BUNDLE": str(bundle), "PEER_ENGINE": shared}
    eager = {"PEER_BUNDLE": str(bundle), "PEER_ENGINE": EAGER}
    at = ("--port", PORT)
    uvicorn = ("-m", "uvicorn", "--factory", "benchmark.peers.fastapi:ancestor", "--log-level", "warning", *at)
    litserve = ("-m", "benchmark.peers.litserve", *at, "--workers", cores)
    mosec = ("-m", "benchmark.peers.mosec", "--address", "127.0.0.1", "--timeout", "60000", *at)
    bentoml = ("-m", "bentoml", "serve", "benchmark.peers.bentoml:Classifier", "--host", "127.0.0.1", *at)
    torchserve = ("-m", "benchmark.peers.torchserve", *at, "--workers", cores)
    untracked = {"PEER_WORKERS": cores, "BENTOML_DO_NOT_TRACK": "True"}
    return [
        Candidate("fastapi-plain", _gunicorn("plain", cores), {**threads, **eager}, "fastapi"),
        Candidate("ancestor", uvicorn, {**eager, "PEER_THREADS": cores}, "fastapi"),
        Candidate("ancestor-workers", _gunicorn("ancestor", cores), {**threads, **eager}, "fastapi"),
        Candidate("fastapi-tuned", _gunicorn("tuned", cores), model, "fastapi"),
        Candidate("litserve", litserve, model, "litserve"),
        Candidate("litserve-16", (*litserve, "--max-batch-size", "16"), model, "litserve"),
        Candidate("mosec", mosec, {**model, "PEER_WORKERS": cores, "PEER_DECODERS": cores}, "mosec"),
        Candidate("mosec-one-stage", mosec, {**model, "PEER_WORKERS": cores, "PEER_DECODERS": "0"}, "mosec"),
        Candidate("bentoml", bentoml, {**model, **untracked}, "bentoml"),
        Candidate("torchserve", torchserve, model, "torchserve", base="/predictions", is_extra=True),
    ]


def _gunicorn(app: str, workers: str) -> tuple[str, ...]:
    # Without a time limit: the master would kill workers that were halted between their turns.
    words = ("-m", "gunicorn", f"benchmark.peers.fastapi:{app}()", "--timeout", "0", "--workers", workers)
    return (*words, "--worker-class", "uvicorn_worker.UvicornWorker", "--bind", f"127.0.0.1:{PORT}")


def chosen(available: Sequence[Candidate], names: Sequence[str], variants: Sequence[str]) -> list[Candidate]:
    """Those that are named, and the variants.

    Args:
        available: the candidates that there are.
        names: those that are compared; none for all but the extra ones.
        variants: each "NAME=BASE OPTIONS…", where BASE is one of `available`.

    Raises:
        ValueError: there is none of that name.
    """
    known = {each.name: each for each in available}
    for variant in variants:
        name, _, change = variant.partition("=")
        base, _, words = change.partition(" ")
        known[name] = _known(known, base).variant(name, words)
    usual = [name for name, each in known.items() if not each.is_extra]
    return [_known(known, name) for name in names or usual]


def _known(known: dict[str, Candidate], name: str) -> Candidate:
    if name not in known:
        raise ValueError(f"there is no candidate {name!r}; there are {', '.join(known)}")
    return known[name]
