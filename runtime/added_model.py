"""A model that was added while the server runs: what was asked of it, checked."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from runtime.record import require

MOST_PROCESSES = 64
RUNNERS = ("auto", "thread", "process")
KINDS = IMAGE, TENSOR, ARCHIVE = "image", "tensor", "archive"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LONGEST_TEXT = 1024
_MOST = 1_000_000_000  # of a setting of an archive; the server has limits of its own


def is_name(text: str) -> bool:
    """Whether a text can name a model or a version: up to 64 letters, digits, ".", "_" and "-"."""
    return _NAME.fullmatch(text) is not None


@dataclass(frozen=True)
class GoldenAsked:
    """What a new version must reach on images with expected labels.

    Attributes:
        folder: of the images, below the model store; "": `golden/` in the bundle.
        least_agreement: share of expected labels, 0 to 1; 0: the server's setting.
        max_latency_ms: longest time of an image; 0: no limit.
    """

    folder: str = ""
    least_agreement: float = 0.0
    max_latency_ms: float = 0.0

    def __post_init__(self) -> None:
        require(len(self.folder) <= _LONGEST_TEXT, "folder is too long")
        require(0 <= self.least_agreement <= 1, "least_agreement must be between 0 and 1")
        require(0 <= self.max_latency_ms <= 3_600_000, "max_latency_ms must be between 0 and 3600000")


@dataclass(frozen=True)
class ArchiveAsked:
    """How a model archive is run; what is 0 or "" is as the archive says, or the default.

    Attributes:
        handler: file, module:function or built-in handler that takes the place of the manifest's.
        batch_size: most requests that a handler gets at once.
        max_batch_delay_ms: longest wait for a batch to fill.
        response_timeout_s: longest time for a batch.
        startup_timeout_s: longest time to load.
        min_workers: processes that run, of all workers of the server together; 0: none, and requests are refused.
        max_workers: processes that may be asked for.
        is_loaded_at_start: it was named at the start of the server.
        is_starting: its workers are started by a later change; until then requests wait for them.
        url: that a client has named, where it is not the path; a copy of what is there lies at the path.
    """

    handler: str = ""
    batch_size: int = 1
    max_batch_delay_ms: int = 100
    response_timeout_s: int = 120
    startup_timeout_s: int = 120
    min_workers: int = 0
    max_workers: int = 0
    is_loaded_at_start: bool = False
    is_starting: bool = False
    url: str = ""

    def __post_init__(self) -> None:
        for text in (self.handler, self.url):
            require(len(text) <= _LONGEST_TEXT, f"a text has more than {_LONGEST_TEXT} characters")
        for name in ("min_workers", "max_workers"):
            require(0 <= getattr(self, name) <= MOST_PROCESSES, f"{name} must be between 0 and {MOST_PROCESSES}")
        for name in ("batch_size", "max_batch_delay_ms", "response_timeout_s", "startup_timeout_s"):
            require(0 <= getattr(self, name) <= _MOST, f"{name} must be between 0 and {_MOST}")


@dataclass(frozen=True)
class AddedModel:
    """A version that was added while the server runs.

    Attributes:
        name: of the model.
        version: of it.
        path: of its bundle or file, below the model store.
        kind: one of `KINDS`: an image classifier; a program of any signature, without labels and golden set; or a
            model archive, which has its own settings.
        on_use: it is loaded on first use, and may be evicted.
        labels: of a TorchScript file: a label file, below the model store; "": what the file says.
        preprocess: of a TorchScript file: a preset, or a JSON file below the model store.
        activation: of a TorchScript file: softmax, sigmoid or none.
        output: of a TorchScript file: the one that holds the scores.
        batchable: whether its items may share a batch.
        runner: where its engine runs; "auto": as the server is set.
        processes: of its engine, per worker; 0: as the server is set.
        golden: what it must reach before it is served; None: nothing.
        archive: of a model archive: how it is run.
    """

    name: str
    version: str
    path: str
    kind: str = IMAGE
    on_use: bool = False
    labels: str = ""
    preprocess: str = ""
    activation: str = ""
    output: str = ""
    batchable: bool = True
    runner: str = "auto"
    processes: int = 0
    golden: GoldenAsked | None = None
    archive: ArchiveAsked | None = None

    def __post_init__(self) -> None:
        for each in (self.name, self.version):
            rule = 'up to 64 letters, digits, ".", "_" and "-", the first a letter or digit'
            require(is_name(each), f"{each[:80]!r} is no name of a model or version: {rule}")
        for each in (self.path, self.labels, self.preprocess, self.activation, self.output):
            require(len(each) <= _LONGEST_TEXT, f"a text has more than {_LONGEST_TEXT} characters")
        require(self.path != "", "path is empty")
        require(self.kind in KINDS, f"kind must be one of {', '.join(KINDS)}")
        require(
            self.kind == IMAGE or not self._of_a_classifier,
            f"a model of kind {self.kind} has no {self._of_a_classifier}",
        )
        require(self.runner in RUNNERS, f"runner must be one of {', '.join(RUNNERS)}")
        require(0 <= self.processes <= MOST_PROCESSES, f"processes must be between 0 and {MOST_PROCESSES}")
        require((self.archive is None) == (self.kind != ARCHIVE), "a model archive has settings of its own")
        require(not (self.on_use and self.golden), "a model that is loaded on use has no golden set")
        require(not (self.on_use and self.archive), "a model archive is loaded when it has workers, not on use")

    @property
    def key(self) -> tuple[str, str]:
        """Its name and version."""
        return self.name, self.version

    @property
    def is_idle(self) -> bool:
        """Whether it has no workers: it is known, and not loaded."""
        return self.archive is not None and (self.is_starting or not self.archive.min_workers)

    @property
    def is_starting(self) -> bool:
        """Whether it is idle, and requests wait for the workers that a later change starts."""
        return self.archive is not None and self.archive.is_starting

    def processes_in(self, workers: int) -> int:
        """Processes of its engine in one of so many workers of the server; 0: as the server is set."""
        return math.ceil(self.archive.min_workers / workers) if self.archive else self.processes

    @property
    def _of_a_classifier(self) -> str:
        """The first setting that only image classifiers have."""
        names = ("labels", "preprocess", "activation", "output", "golden")
        return next((name for name in names if getattr(self, name)), "")
