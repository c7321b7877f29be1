"""A line that is logged rarely."""

from __future__ import annotations

import logging

from server.operations.rare_line import INTERVAL_S, RareLine


def test_the_first_time_at_once_then_once_per_interval_with_the_number(caplog):
    caplog.set_level(logging.INFO, "rare")
    now = 100.0
    warn = RareLine(logging.getLogger("rare"), lambda: now)
    for _ in range(1000):
        warn("lost %s", "it")
    now += INTERVAL_S
    warn("lost %s", "it")
    assert caplog.messages == ["lost it", "lost it (1,000 times)"]
