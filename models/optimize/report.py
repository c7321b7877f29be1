"""What the optimiser tells people: progress on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from models.bundles.spec import ModelSpec
from models.optimize.fidelity import ENOUGH_IMAGES, FOR_A_CHECK

if TYPE_CHECKING:
    from models.optimize.trial import Trial

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
            self.note(text)
        else:
            self._bar.update(self._task, description=escape(text))
            self._bar.advance(self._task)

    def note(self, text: str) -> None:
        """A line that stays."""
        self.console.print(escape(text), highlight=False, soft_wrap=True)

    def advance(self) -> None:
        """Moves the bar by one without a new text."""
        if self._bar is not None:
            self._bar.advance(self._task)

    def warn_random(self) -> None:
        """Says loudly that the weights are random."""
        self.console.print(Panel(RANDOM_WARNING, style="bold red"))

    def outcome(self, output: Path, spec: ModelSpec, trials: Sequence[Trial], winner: Trial) -> None:
        """The tables at the end, what to do with the bundle, what was not tried, and speed that is left unused."""
        self.console.print(candidates_table(trials, winner))
        for reason in reasons(trials):
            self.note(f"  {reason}")
        self.console.print(speed_table(spec, trials))
        if spec.is_random:
            self.warn_random()
        self.note(f"Wrote {output}; to serve it: python -m server --model {output}")
        for line in (left_out(trials), left_on_the_table(trials, winner)):
            if line:
                self.note(line)


def candidates_table(trials: Sequence[Trial], winner: Trial) -> Table:
    """One row per candidate: what it is worth, and what became of it. Fits into 80 columns."""
    table = Table(title=f"Candidates against {_reference(winner)}", box=SIMPLE, padding=(0, 0, 0, 1))
    table.add_column("candidate", no_wrap=True)
    for heading in ("agrees", "right", "images/s", "lone", "MB", "build"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for trial in trials:
        table.add_row(trial.name, *_worth(trial), *_speed(trial), *_size(trial), fate(trial, winner))
    return table


def _reference(winner: Trial) -> str:
    return winner.fidelity.reference if winner.fidelity else "the reference"


def _worth(trial: Trial) -> tuple[str, str]:
    proof = trial.fidelity
    if proof is None:
        return "-", "-"
    agreement = f"{proof.top1_agreement:.1%}" if proof.decisive_images else "?"
    return agreement, "-" if proof.accuracy is None else f"{proof.accuracy:.1%}"


def _speed(trial: Trial) -> tuple[str, str]:
    if trial.speed is None:
        return "-", "-"
    return f"{trial.peak:.0f}", f"{trial.speed.lone_ms:.1f} ms"


def _size(trial: Trial) -> tuple[str, str]:
    return (f"{trial.build.megabytes:.0f}", f"{trial.build.seconds:.0f} s") if trial.build else ("-", "-")


def fate(trial: Trial, winner: Trial) -> str:
    """What became of a candidate, in two words."""
    if trial.is_left_out:
        return "left out"
    if trial.refusal:
        return "refused" if trial.fidelity else "failed"
    if trial is winner:
        return "chosen"
    return "reference" if trial.candidate.is_reference else trial.reservation.partition(":")[0]


def reasons(trials: Sequence[Trial]) -> list[str]:
    """One line for each candidate that is out, or that may not be chosen, or not in every way."""
    given = [(trial.name, trial.refusal or trial.reservation) for trial in trials]
    given += [
        (trial.name, f"left out with {setting}: other answers than when it was judged")
        for trial in trials
        for setting in trial.inconsistent
    ]
    return [f"{name}: {reason}" for name, reason in given if reason]


def speed_table(spec: ModelSpec, trials: Sequence[Trial]) -> Table:
    """Images per second, and below them milliseconds per batch, for every setting and batch size."""
    where = spec.built_with.get("gpu") if spec.engine.device == "cuda" else spec.built_with.get("cpu")
    table = Table(title=f"{spec.name} on {where}: images/s, ms per batch", box=SIMPLE, show_lines=True)
    table.add_column("candidate", no_wrap=True)
    table.add_column("setting", no_wrap=True)
    speeds = [(trial.name, speed) for trial in trials for speed in trial.speeds]
    for size in speeds[0][1].latency_ms:
        table.add_column(f"{size}", justify="right", no_wrap=True)
    for name, speed in speeds:
        cells = (f"{1000 * size / ms:.0f}\n{_short(ms)}" for size, ms in speed.latency_ms.items())
        table.add_row(name, str(speed.setting), *cells)
    return table


def _short(ms: float) -> str:
    return f"{ms:.0f}" if ms >= 100 else f"{ms:.3g}"


def left_on_the_table(trials: Sequence[Trial], winner: Trial) -> str:
    """How much faster a candidate is that was not chosen for want of images, and how to get it; or ""."""
    weak = [trial for trial in trials if trial.reservation.startswith("weak gate")]
    best = max(weak, key=lambda trial: trial.peak, default=None)
    if best is None or best.peak <= winner.peak:
        return ""
    ratio = best.peak / winner.peak
    return (
        f"Left on the table: {best.name} does {best.peak:.0f} images/s, {ratio:.1f} times as many. Its check "
        f"needs {ENOUGH_IMAGES} photos besides those that calibrate it: --pictures FOLDER with {FOR_A_CHECK} or "
        "more, better --validation FOLDER with a sub-folder per label; or --accept-weak-gate."
    )


def left_out(trials: Sequence[Trial]) -> str:
    """What a longer search would try; or ""."""
    names = [trial.name for trial in trials if trial.is_left_out]
    if not names:
        return ""
    longer = "A longer --budget-s, or none (make optimize), tries them too."
    return f"Not tried for want of time: {', '.join(names)}. {longer}"
