"""The way back from a new default version that fails too often."""

from __future__ import annotations

import logging
from collections.abc import Callable

from runtime.errors import RuntimeFault
from runtime.model_set import ModelSet
from server.workers.changes import Changes
from server.workers.messages import Unhealthy

log = logging.getLogger("snapserve")


async def roll_back(changes: Changes, report: Unhealthy, on_done: Callable[[], None]) -> None:
    """Makes the version before the default one again, as an ordinary change.

    Several workers may report the same version, or the default may be another one by now: that is no error.

    Args:
        changes: of all workers.
        report: of one of them.
        on_done: called when there was a rollback.
    """
    before = ""

    def back(models: ModelSet) -> ModelSet:
        nonlocal before
        before = _way_back(models, report)
        return models.with_default(report.name, before, undoing=True) if before else models

    try:
        await changes.change(back, must=True)
    except RuntimeFault as error:
        log.error(
            "%s %s fails (%s), and is not rolled back: %s", report.name, report.version, report.reason, error
        )
        return
    if before:
        log.error("%s %s fails (%s): rolled back to %s", report.name, report.version, report.reason, before)
        on_done()


def _way_back(models: ModelSet, report: Unhealthy) -> str:
    """The version to go back to; "" where there is none, or the one that fails is no longer the default."""
    is_default = (
        report.version in models.versions(report.name) and models.default_of(report.name) == report.version
    )
    return models.before(report.name) if is_default else ""
