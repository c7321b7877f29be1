"""The comparison as pictures: SVG for the README."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _THEIRS, _LIMIT = "#1f6f8b", "#b8b8b8", "#444444"


def draw_throughput(rows: Sequence[Mapping[str, Any]], title: str, file: Path, limit: float | None = None) -> None:
    """A bar per contestant, the fastest on top, with a line from its least to its most.

    Args:
        rows: of the result's `contestants`.
        title: above the bars: model, machine and load.
        file: SVG.
        limit: images/s without HTTP, drawn as a line.
    """
    from matplotlib.figure import Figure

    ordered = sorted(rows, key=lambda row: row["requests_per_s"]["median"])
    rates = [row["requests_per_s"] for row in ordered]
    names = [row["name"] for row in ordered]
    figure = Figure(figsize=(8, 1.1 + 0.38 * len(ordered)), layout="constrained")
    axes = figure.subplots()
    medians = [rate["median"] for rate in rates]
    whiskers = [
        [rate["median"] - rate["min"] for rate in rates],
        [rate["max"] - rate["median"] for rate in rates],
    ]
    colours = [_OURS if name.startswith("snapserve") else _THEIRS for name in names]
    axes.barh(names, medians, xerr=whiskers, color=colours, ecolor="#222222", capsize=3, height=0.65)
    for place, rate in enumerate(rates):
        axes.annotate(
            f"{rate['median']:.0f}",
            (rate["max"], place),
            xytext=(6, 0),
            textcoords="offset points",
            verticalalignment="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )
    if limit:
        axes.axvline(limit, color=_LIMIT, linestyle="--", linewidth=1, label=f"limit without HTTP: {limit:.0f}")
        figure.legend(loc="outside lower right", frameon=False, fontsize=9)
    axes.set_xlim(0, 1.12 * max(limit or 0, *(rate["max"] for rate in rates)))
    axes.set_xlabel("requests/s (median of the rounds; lines: least to most)")
    figure.suptitle(title, fontsize=9)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def draw_latency(rows: Sequence[Mapping[str, float]], title: str, file: Path) -> None:
    """Latency against offered load, of requests that arrive at random.

    Args:
        rows: each with `offered_per_s`, `p50_ms`, `p99_ms`, `p999_ms`.
        title: above the lines.
        file: SVG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    ordered = sorted(rows, key=lambda row: row["offered_per_s"])
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    offered = [row["offered_per_s"] for row in ordered]
    styles = {"p50": (_OURS, "o-"), "p99": ("#d1495b", "s-"), "p999": ("#e0a030", "^:")}
    for name, (colour, style) in styles.items():
        label = "p99.9" if name == "p999" else name
        axes.plot(offered, [row[f"{name}_ms"] for row in ordered], style, color=colour, label=label)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.set_xlim(left=0)
    axes.set_xlabel("requests/s offered (latency counts from the intended send time)")
    axes.set_ylabel("latency, ms")
    figure.suptitle(title, fontsize=9)
    axes.legend(frameon=False)
    axes.grid(axis="y", color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    _save(figure, file)


def _save(figure: Figure, file: Path) -> None:
    """The same bytes for the same figures, so that a repeated run changes nothing in the repository."""
    from matplotlib import rc_context

    with rc_context({"svg.hashsalt": "snapserve"}):
        figure.savefig(file, metadata={"Date": None})
