"""What the rounds came to: medians, spreads, ratios, and the table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from rich.console import Console

from benchmark.harness.clients import Answer
from benchmark.harness.results import Row, print_table

_MEDIANS = ("requests_per_s", "p50", "p99", "p999", "cpu_ms_per_request")
_TIMES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}
_PEAKS = ("peak_rss_mb", "pss_mb")
_TOTALS = ("requests", "checked", "wrong", "non_2xx", "socket_errors")


def summary(turns: Sequence[Row]) -> Row:
    """A candidate's turns: `{median, min, max, rounds}` of each measure, peaks of memory, totals of errors."""
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
    """Every candidate of ours by every other one: medians of the ratios of the same round.

    The machine's speed changes from round to round; what two candidates did within one of them changes less.

    Args:
        turns: by candidate, each with its turns in the order of the rounds.
        ours: prefix of the names of the candidates that are divided.

    Returns:
        By candidate of ours, by peer: `requests_per_s` and `p99`, each `{median, min, max, rounds}`,
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


def difference(answers: Sequence[Answer], reference: Sequence[Sequence[float]]) -> dict[str, float]:
    """Difference of answers from the reference.

    Returns:
        `top1_agreement`, the share of images with the same first class; `max_abs_diff`, the largest
        difference of a score from the reference's for the same class, over all predictions.
    """
    pairs = list(zip(answers, reference, strict=True))
    agree = [answer[0].index == max(range(len(row)), key=row.__getitem__) for answer, row in pairs]
    diffs = [abs(each.score - row[each.index]) for answer, row in pairs for each in answer]
    return {"top1_agreement": sum(agree) / len(agree), "max_abs_diff": round(max(diffs), 4)}


def print_report(result: Row, console: Console | None = None) -> None:
    """The candidates, the fastest first; the ratios; the missing ones with the reason."""
    console = console or Console(width=150)
    rows = sorted(result["contestants"], key=lambda row: -row["requests_per_s"]["median"])
    if rows:
        title = "medians of the rounds (least to most); one upload per connection at a time"
        print_table(title, [_shown(row) for row in rows], console)
    for name, peers in result["ratios"].items():
        cells = [
            {"peer": peer, **{measure: _range(each) if each else "-" for measure, each in ratio.items()}}
            for peer, ratio in peers.items()
        ]
        if cells:
            title = f"{name} by its peers: medians of the ratios within a round (least to most)"
            print_table(title, cells, console)
    for missing in result["missing"]:
        console.print(f"missing: {missing['name']}: {missing['reason']}", highlight=False)
    for row in rows:
        if row["wrong"]:
            console.print(f"WRONG: {row['name']}: {row['wrong']} answers, the first: {row['wrong_example']}")


def _shown(row: Row) -> Row:
    limit = row.get("percent_of_limit")
    times = {f"{head} ms": f"{row[name]['median']:.0f}" for name, head in _TIMES.items()}
    counts = {name: row[name] for name in ("pss_mb", "checked", "wrong", "non_2xx", "socket_errors")}
    return {
        "candidate": row["name"],
        "requests/s": _range(row["requests_per_s"], ".1f", ".0f"),
        **times,
        "CPU ms": f"{row['cpu_ms_per_request']['median']:.1f}",
        "% of limit": f"{limit['median']:.0f}" if limit else None,
        **counts,
        "off by": f"{row['reference']['max_abs_diff']:.3f}",
    }


def _range(spread: Row, middle: str = ".2f", ends: str = ".2f") -> str:
    return f"{spread['median']:{middle}} ({spread['min']:{ends}}-{spread['max']:{ends}})"
