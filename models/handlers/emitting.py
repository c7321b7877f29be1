"""Metrics outside a batch, as handlers report them while they load."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from models.handlers.metrics.metric import Metric

_takers: list[Callable[[Metric], None]] = []


def emit_metrics(metrics: Iterable[Metric]) -> None:
    """Reports values; those that a store has are reported with its batch anyway, and not twice."""
    for each in list(metrics):
        for take in _takers:
            take(each)


def emit_to(take: Callable[[Metric], None]) -> None:
    """From now on `take` gets what is emitted."""
    _takers.append(take)
