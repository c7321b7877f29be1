"""What the rounds came to: medians, spreads, ratios, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

Row = dict[str, Any]

_MEDIANS = ("requests_per_s", "p50", "p99", "p999", "cpu_ms_per_request")
_PEAKS = ("peak_rss_mb", "pss_mb")
_TOTALS = ("requests", "checked", "wrong", "non_2xx", "socket_errors")


def summary(turns: Sequence[Row]) -> Row:
    """A contestant's turns: `{median, min, max, rounds}` of each measure, peaks of memory, totals of errors."""
    spreads = {name: spread([row[name] for row in turns]) for name in _MEDIANS}
    peaks = {name: round(max(row[name] for row in turns)) for name in _PEAKS}
    totals = {name: sum(row[name] for row in turns) for name in _TOTALS}
    example = next((row["wrong_example"] for row in turns if row["wrong_example"]), None)
    return {**spreads, **peaks, **totals, **({"wrong_example": example} if example else {})}


def spread(values: Sequence[float]) -> Row:
    """Median, extremes and the single values, rounded to what they are worth."""
    rounded = [round(value, 2) for value in values]
    return {"median": round(median(values), 2), "min": min(rounded), "max": max(rounded), "rounds": rounded}


def ratios(turns: Mapping[str, Sequence[Row]], ours: str = "snapserve") -> dict[str, dict[str, Row]]:
    """Every contestant of ours by every other one: medians of the ratios of the same round.

    The machine's speed changes from round to round; what two contestants did within one of them changes less.

    Args:
        turns: by contestant, each with its turns in the order of the rounds.
        ours: prefix of the names of the contestants that are divided.

    Returns:
        By contestant of ours, by peer: `requests_per_s` and `p99`, each `{median, min, max, rounds}`,
        or None where a peer answered nothing in a round.
    """
    names = [name for name in turns if name.startswith(ours)]
    peers = [name for name in turns if not name.startswith(ours)]
    return {name: {peer: _ratio(turns[name], turns[peer]) for peer in peers} for name in names}


def _ratio(mine: Sequence[Row], theirs: Sequence[Row]) -> Row:
    pairs = list(zip(mine, theirs, strict=True))
    measures = ("requests_per_s", "p99")
    return {name: _divided([(one[name], other[name]) for one, other in pairs]) for name in measures}


def _divided(pairs: Sequence[tuple[float, float]]) -> Row | None:
    """None where a round has nothing to divide by, which no figure could tell."""
    return spread([one / other for one, other in pairs]) if all(other for _, other in pairs) else None


def percent_of_limit(turns: Sequence[Row], limit: Sequence[float]) -> Row:
    """Requests/s in percent of the limit's images/s in the same round."""
    return spread([100 * row["requests_per_s"] / most for row, most in zip(turns, limit, strict=True)])


def print_report(result: Row, console: Console | None = None) -> None:
    """The contestants, the fastest first; the ratios; who is missing and why."""
    console = console or Console(width=150)
    console.print(_contestants(result["contestants"]))
    for name, peers in result["ratios"].items():
        if peers:
            console.print(_ratios(name, peers))
    for missing in result["missing"]:
        console.print(f"missing: {missing['name']}: {missing['reason']}", highlight=False)
    for row in result["contestants"]:
        if row["wrong"]:
            console.print(f"WRONG: {row['name']}: {row['wrong']} answers, the first: {row['wrong_example']}")


def _contestants(rows: Sequence[Row]) -> Table:
    table = Table(title="medians of the rounds (least to most); one upload per connection at a time")
    heads = ("requests/s", "p50 ms", "p99 ms", "p99.9 ms", "CPU ms", "PSS MB", "% of limit", "checked", "wrong")
    table.add_column("contestant")
    for head in (*heads, "non-2xx", "socket", "off by"):
        table.add_column(head, justify="right")
    for row in sorted(rows, key=lambda row: -row["requests_per_s"]["median"]):
        rate, limit = row["requests_per_s"], row.get("percent_of_limit")
        table.add_row(
            row["name"],
            f"{rate['median']:.1f} ({rate['min']:.0f}-{rate['max']:.0f})",
            *(f"{row[name]['median']:.0f}" for name in ("p50", "p99", "p999")),
            f"{row['cpu_ms_per_request']['median']:.1f}",
            f"{row['pss_mb']}",
            f"{limit['median']:.0f}" if limit else "-",
            *(f"{row[name]}" for name in ("checked", "wrong", "non_2xx", "socket_errors")),
            f"{row['reference']['max_abs_diff']:.3f}",
        )
    return table


def _ratios(name: str, peers: Mapping[str, Row]) -> Table:
    table = Table(title=f"{name} by its peers: medians of the ratios within a round (least to most)")
    for head in ("peer", "requests/s", "p99"):
        table.add_column(head, justify="left" if head == "peer" else "right")
    for peer, ratio in peers.items():
        cells = (ratio["requests_per_s"], ratio["p99"])
        table.add_row(peer, *(_with_range(each) if each else "-" for each in cells))
    return table


def _with_range(ratio: Row) -> str:
    return f"{ratio['median']:.2f} ({ratio['min']:.2f}-{ratio['max']:.2f})"
