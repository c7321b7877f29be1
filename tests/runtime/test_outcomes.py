"""Whose fault an error is, and how often it was the model's lately."""

from __future__ import annotations

import asyncio

import pytest

from batching import BatcherClosed, DeadlineExceeded, ItemFailed, QueueFull, TooLate
from models.errors import TooManyPixels, UndecodableImage, UnsupportedFormat
from runtime.errors import (
    EngineDied,
    EngineOutputError,
    EngineRaised,
    EngineStuck,
    EngineTimeout,
    EngineUnavailable,
    ModelLoading,
    ModelUnloaded,
    Overloaded,
    UnknownModel,
)
from runtime.outcomes import Outcomes, is_models_fault


def failed(cause):
    error = ItemFailed("the engine failed on this item")
    error.__cause__ = cause
    return error


OF_THE_MODEL = [
    *(
        failed(EngineDied("x")),
        failed(EngineTimeout("x")),
        failed(EngineRaised("x")),
        failed(EngineOutputError("x")),
    ),
    *(failed(None), failed(RuntimeError("x")), failed(EngineUnavailable(3)), EngineUnavailable(3), EngineStuck(3)),
    *(ModelUnloaded("x"), KeyError("a mistake in prepare or finish")),
]
OF_OTHERS = [
    *(UndecodableImage("JPEG"), UnsupportedFormat(None), TooManyPixels(1, 2), failed(UndecodableImage("JPEG"))),
    *(QueueFull(1), DeadlineExceeded("x"), TooLate("x"), BatcherClosed("x"), Overloaded(1)),
    *(UnknownModel("x"), ModelLoading("x"), asyncio.CancelledError(), None),
]


@pytest.mark.parametrize("error", OF_THE_MODEL, ids=repr)
def test_it_is_the_models_fault(error):
    assert is_models_fault(error)


@pytest.mark.parametrize("error", OF_OTHERS, ids=repr)
def test_it_is_a_clients_fault_the_loads_or_none(error):
    assert not is_models_fault(error)


def test_the_share_of_failures_forgets_what_is_long_ago():
    now = [0.0]
    outcomes = Outcomes(half_life_s=60, clock=lambda: now[0])
    assert outcomes.failure_share() == 0
    for error in [*OF_THE_MODEL[:3], *OF_OTHERS[:-1], None]:
        outcomes.note(error)
    assert outcomes.failure_share() == 3 / 4
    assert outcomes.failure_share(least=30) == 3 / 30, "few inputs are no rate"
    now[0] = 60
    assert outcomes.failure_share() == 3 / 4, "time alone changes no share"
    for _ in range(2):
        outcomes.note()
    assert outcomes.failure_share() == 1.5 / 4, "the three failures count as one and a half"
