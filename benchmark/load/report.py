"""What a load came to, for people."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from benchmark.load.tally import PERCENTILES

Row = dict[str, Any]


def table(rows: Sequence[Row]) -> Table:
    """What became of the requests, by rate; times in milliseconds."""
    drawn = Table("load", title="latency in ms, from when a request was due to its answer's last byte")
    counts = ("offered_per_s", "answered_per_s", "sent", "ok", "wrong", "refused")
    for name in (*counts, "errors", *PERCENTILES, "late p99"):
        drawn.add_column(name.replace("_per_s", "/s").replace("_", "."), justify="right")
    for row in rows:
        times = (row["latency_ms"][name] for name in PERCENTILES)
        errors = ", ".join(f"{count} {kind}" for kind, count in row["errors"].items()) or "0"
        drawn.add_row(
            row["load"],
            *(f"{row.get(name, '-')}" for name in counts),
            errors,
            *("-" if ms is None else f"{ms:.1f}" for ms in times),
            f"{row['late_p99_ms']:.1f}",
        )
    return drawn


def in_words(report: Row, connections: int) -> str:
    rate = report["requests"] / report["seconds"]
    times = ", ".join(f"{name} {report[name]:.1f} ms" for name in ("p50", "p90", "p99"))
    return f"wrk, {connections} connections: {rate:.1f} requests/s, {times}"
