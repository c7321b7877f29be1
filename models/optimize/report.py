"""What the optimiser tells people: progress on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.spec import ModelSpec

if TYPE_CHECKING:
    from models.optimize.fidelity import Fidelity
    from models.optimize.optimizer import Trial

RANDOM_WARNING = "RANDOM WEIGHTS: this model was never trained. Its labels mean nothing; it is for speed only."


class Report:
    """Speaks through one console: a moving bar where it is a terminal, else a line per step."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)

    @contextmanager
    def progress(self, steps: int) -> Iterator[None]:
        """Shows a bar of that many steps while the context lasts."""
        if not self.console.is_terminal:
            yield
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
        try:
            with Progress(*columns, console=self.console, transient=True) as self._bar:
                self._task = self._bar.add_task("", total=steps)
                yield
        finally:
            self._bar = None

    def step(self, text: str) -> None:
        """Names what is being done now."""
        if self._bar is None:
            self.console.print(escape(text), highlight=False, soft_wrap=True)
        else:
            self._bar.update(self._task, description=escape(text))
            self._bar.advance(self._task)

    def advance(self) -> None:
        """Moves the bar by one without a new text."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def warn_random(self) -> None:
        """Says loudly that the weights are random."""
        self.console.print(Panel(RANDOM_WARNING, style="bold red"))

    def outcome(self, output: Path, spec: ModelSpec, trials: Sequence[Trial]) -> None:
        """The tables at the end: candidates, then the latencies of the one that was written."""
        self.console.print(candidates_table(trials))
        self.console.print(latency_table(spec))
        if spec.is_random:
            self.warn_random()
        text = f"Wrote {output}; to serve it: python -m server --model {output}"
        self.console.print(escape(text), highlight=False, soft_wrap=True)


def candidates_table(trials: Sequence[Trial]) -> Table:
    """One row per candidate; the fastest that passed is marked."""
    table = Table(title="Candidates against eager fp32")
    table.add_column("candidate", no_wrap=True)
    for heading in ("top-1 agreement", "max score difference", "images/s", ""):
        table.add_column(heading)
    best = max(trials, key=lambda trial: trial.speed)
    for trial in trials:
        proof = trial.fidelity
        table.add_row(
            trial.candidate.name,
            _agreement(proof) if proof else "-",
            f"{proof.max_abs_diff:.2g}" if proof else "-",
            f"{trial.speed:.0f}" if trial.bundle else "-",
            "written" if trial is best else escape(trial.refusal),
        )
    return table


def _agreement(proof: Fidelity) -> str:
    if not proof.decisive_images:
        return f"no clear winner on {proof.images} pictures"
    return f"{proof.top1_agreement:.2%} of {proof.decisive_images}"


def latency_table(spec: ModelSpec) -> Table:
    """One row per batch size."""
    where = spec.built_with.get("gpu") if spec.engine.device == "cuda" else spec.built_with.get("cpu")
    table = Table(title=f"{spec.name}, {spec.engine.precision}, {where}")
    for heading in ("batch size", "ms per batch", "images/s"):
        table.add_column(heading, justify="right")
    for size, ms in spec.latency_ms.items():
        table.add_row(size, f"{ms:.1f}", f"{int(size) * 1000 / ms:.0f}")
    return table
