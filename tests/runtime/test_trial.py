"""When a new version is rolled back."""

from __future__ import annotations

import pytest

from batching import ItemFailed
from models.errors import UndecodableImage
from runtime.errors import EngineDied, Overloaded
from runtime.outcomes import Outcomes
from runtime.trial import Trial, TrialRules


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def failed(cause=None):
    error = ItemFailed("the engine failed on this item")
    error.__cause__ = cause or RuntimeError("broken")
    return error


def run(trial, answers, failures, error=None):
    """Notes answers, then failures; returns what each failure gave."""
    for _ in range(answers):
        assert not trial.note()
    return [trial.note(error or failed()) for _ in range(failures)]


def test_a_version_that_only_fails_is_told_at_the_fifth_failure_and_once():
    trial = Trial(clock=Clock())
    assert run(trial, 0, 8) == [False] * 4 + [True] + [False] * 3
    assert trial.is_over
    assert trial.reason == "5 of 5 images failed within 0.0 s, at most 20% may"


def test_few_failures_or_a_small_share_of_them_are_borne():
    assert run(Trial(clock=Clock()), 0, 4) == [False] * 4
    trial = Trial(clock=Clock())
    assert run(trial, 20, 6) == [False] * 5 + [True], "5 of 25 are 20 %, 6 of 26 are more"
    assert (trial.answered, trial.failed) == (20, 6)
    assert trial.reason.startswith("6 of 26 images failed")


def test_answers_after_failures_do_not_end_it():
    trial = Trial(TrialRules(least_failures=2, failure_share=0.5), clock=Clock())
    assert not any(trial.note(error) for error in (failed(), None, None, failed(), None))
    assert not trial.is_over


@pytest.mark.parametrize(
    "error", [UndecodableImage("JPEG"), Overloaded(1), failed(UndecodableImage("JPEG")), KeyboardInterrupt()]
)
def test_what_clients_and_load_cause_does_not_count(error):
    trial = Trial(clock=Clock())
    assert not any(run(trial, 0, 100, error))
    assert (trial.answered, trial.failed, trial.is_over) == (0, 0, False)
    assert run(trial, 0, 5, failed(EngineDied("killed")))[-1], "nor does it hide what does"


def test_the_version_before_is_the_measure():
    clock = Clock()
    before = Outcomes(clock=clock)
    for number in range(100):
        before.note(failed() if number % 2 else None)
    assert not any(run(Trial(share_before=before.failure_share(), clock=clock), 10, 10)), "as many as before"
    assert any(run(Trial(share_before=before.failure_share(), clock=clock), 10, 40))
    assert any(run(Trial(clock=clock), 10, 10))


def test_after_its_time_nothing_counts():
    clock = Clock()
    trial = Trial(TrialRules(seconds=60), clock=clock)
    assert run(trial, 0, 4) == [False] * 4
    clock.now += 59.9
    assert not trial.is_over
    clock.now += 0.2
    assert trial.is_over
    assert not any(run(trial, 0, 10))
    assert (trial.failed, trial.reason) == (4, "")


@pytest.mark.parametrize("wrong", [{"seconds": 0}, {"least_failures": 0}, {"failure_share": 1}])
def test_rules_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be"):
        TrialRules(**wrong)
