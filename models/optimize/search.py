"""The search for the fastest engine: what is cheap and promising first, what is hopeless not for long."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path

from models.optimize.budget import Budget
from models.optimize.candidates import Candidate, Job
from models.optimize.contestant import Contestant
from models.optimize.effort import Effort
from models.optimize.evidence import Evidence
from models.optimize.examination import examine, settings_of
from models.optimize.isolation import FAILURES, isolated, reason_of, time_limit
from models.optimize.report import Report
from models.optimize.timing import Rounds
from models.optimize.trial import LEFT_OUT, Trial
from models.optimize.weights import Weights

# An engine with less than this part of the fastest one's images/s at its first measurement is not timed again;
# the fastest that may be chosen, so that one that may not does not end the comparison of those that may.
HOPELESS = 0.5
_TO_FINISH_S = 5.0  # for the table, the plot and the bundle
_TO_FINISH_SHARE = 0.1
_QUICKEST = 0.2  # of what is typical: one quick candidate says little about the next
_END_OF_TIME = f"{LEFT_OUT}: stopped at the end of the time"


class Search:
    """Builds candidates one after the other, compares and times each once, then times the hopeful ones in turns.

    Attributes:
        trials: what is finished; it can be used at any moment, also after Ctrl-C.
    """

    def __init__(
        self,
        weights: Weights,
        evidence: Evidence,
        job: Job,
        folder: Path,
        report: Report,
        effort: Effort,
        budget: Budget,
    ) -> None:
        self.trials: list[Trial] = []
        self._weights = weights
        self._evidence = evidence
        self._job = job
        self._folder = folder
        self._report = report
        self._effort = effort
        self._budget = budget
        self._typical_s = self._took_s = 0.0  # of the candidates so far: what they usually take, and took

    @property
    def winner(self) -> Trial | None:
        """The fastest that may be chosen, so far."""
        eligible = (trial for trial in self.trials if trial.is_eligible)
        return max(eligible, key=lambda trial: trial.peak, default=None)

    def run(self, parts: Sequence[Sequence[Candidate]]) -> None:
        """Tries all candidates; those of one part are in memory at the same time."""
        for number, part in enumerate(parts):
            with ExitStack() as stack:
                alive: dict[str, Contestant] = {}
                for candidate in part:
                    if trial := self._passed_over(candidate):
                        self.trials.append(trial)
                    elif contestant := self._look(candidate, stack):
                        alive[candidate.name] = contestant
                self._time_in_turns(alive, len(parts) - number)

    def _passed_over(self, candidate: Candidate) -> Trial | None:
        """A trial of a candidate that is not begun, because the time would not do."""
        pace = self._took_s / self._typical_s if self._typical_s else 1.0
        needed = candidate.typical_s * max(pace, _QUICKEST)
        if self.winner is None or self._time_left >= needed:
            return None
        return Trial(
            candidate, refusal=f"{LEFT_OUT}: {self._time_left:.0f} s were left, it takes about {needed:.0f} s"
        )

    @property
    def _time_left(self) -> float:
        """Seconds until the bundle has to be written."""
        budget = self._budget
        if not budget.is_limited:
            return budget.left
        return max(0.0, budget.left - max(_TO_FINISH_S, _TO_FINISH_SHARE * budget.seconds))

    def _look(self, candidate: Candidate, stack: ExitStack) -> Contestant | None:
        """Builds, compares and times a candidate once; None where its process does not even start."""
        began = self._budget.spent
        try:
            contestant = stack.enter_context(self._contestant(candidate))
            pid = contestant.pid()
        except (EOFError, OSError) as failure:
            self.trials.append(Trial(candidate, refusal=reason_of(failure)))
            return None
        can_end = self.winner is not None and self._budget.is_limited  # another candidate can be served instead
        with time_limit(pid, self._time_left if can_end else None) as is_over:
            trial = examine(candidate, contestant, self._evidence, self._effort, self._step)
            if not trial.refusal:
                trial = self._timed_once(trial, contestant)
        if is_over():
            trial = trial.refused(_END_OF_TIME)
        self._typical_s += candidate.typical_s
        self._took_s += self._budget.spent - began
        self.trials.append(trial)
        return contestant

    def _contestant(self, candidate: Candidate) -> AbstractContextManager[Contestant]:
        folder = self._folder / candidate.name
        folder.mkdir()
        arguments = (candidate, self._job, self._weights.architecture, self._weights.labels, folder)
        return (
            isolated(Contestant, *arguments) if self._effort.is_isolated else nullcontext(Contestant(*arguments))
        )

    def _timed_once(self, trial: Trial, contestant: Contestant) -> Trial:
        """With one measurement, for which what settles at first is not counted."""
        self._step(f"{trial.name}: timing")
        settings = [each for each in settings_of(trial.candidate, self._effort) if each not in trial.inconsistent]
        rounds = Rounds(self._job.batch_sizes, settings)
        try:
            rounds.settle(contestant)
            rounds.add(contestant)
        except FAILURES as failure:
            return trial.refused(reason_of(failure))
        return dataclasses.replace(trial, speeds=rounds.speeds)

    def _time_in_turns(self, alive: Mapping[str, Contestant], parts_left: int) -> None:
        """Measures what is not hopeless in rounds: a disturbance of the machine hits all alike."""
        best = self.winner.peak if self.winner else 0.0
        running = {}
        for trial in self.trials:
            hopeful = [speed.setting for speed in trial.speeds if speed.peak >= HOPELESS * best]
            if trial.name in alive and hopeful:
                running[trial.name] = Rounds(self._job.batch_sizes, hopeful)
        until = self._budget.spent + self._time_left / parts_left
        longest = 0.0
        for number in range(1, self._effort.rounds + 1):
            began = self._budget.spent
            if not running or began + longest > until:
                return
            sizes = self._job.batch_sizes
            self._step(f"timing batches of {sizes[0]} to {sizes[-1]}, round {number} of {self._effort.rounds}")
            for name in list(running):
                self._add_round(name, running, alive)
            longest = max(longest, self._budget.spent - began)
            speeds = {name: rounds.speeds for name, rounds in running.items()}
            self.trials = [trial.with_speeds(speeds.get(trial.name, ())) for trial in self.trials]

    def _add_round(self, name: str, running: dict[str, Rounds], alive: Mapping[str, Contestant]) -> None:
        """Measures one candidate; one that fails at it is out, and only it."""
        try:
            running[name].add(alive[name])
        except FAILURES as failure:
            del running[name]
            reason = reason_of(failure)
            self.trials = [trial.refused(reason) if trial.name == name else trial for trial in self.trials]

    def _step(self, text: str) -> None:
        left = self._budget.describe()
        self._report.step(f"{text} ({left})" if left else text)
