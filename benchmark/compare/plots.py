"""The plots of the documents, from results: `python -m benchmark plots`."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmark.harness.results import Row, read_json
from benchmark.harness.server import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OURS, _THEIRS, _LIMIT = "#1f6f8b", "#b8b8b8", "#444444"


def add_command(commands: Any) -> None:
    """Adds `plots` to the command line."""
    results = ROOT / "benchmark" / "results"
    parser = commands.add_parser("plots", help=__doc__)
    parser.add_argument("--compare", type=Path, default=results / "serve-compare.json", help="of serve-compare")
    parser.add_argument("--load", type=Path, default=results / "load.json", help="of load")
    parser.add_argument("--output", type=Path, default=ROOT / "docs", help="folder; default: docs")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Draws `serve-compare.svg` and `latency.svg`, each where its result is there. 1 if none is."""
    plots = ((options.compare, "serve-compare", draw_compare), (options.load, "latency", draw_load))
    found = [plot for plot in plots if plot[0].exists()]
    for source, name, draw in found:
        target = options.output / f"{name}.svg"
        draw(read_json(source), target)
        print(f"plots: {target} from {source}")
    return 0 if found else 1


def draw_compare(result: Row, file: Path) -> None:
    """The throughput of a result of `serve-compare`."""
    machine, options = result["machine"], result["options"]
    cores = options.get("cores") or machine["cores"]
    title = f"ResNet18, 64 KB JPEG, {options['connections']} connections, {cores} cores: {machine['cpu']}"
    limit = median(result["limit"]["images_per_s_rounds"]) if result["limit"] else None
    draw_throughput(result["contestants"], title, file, limit)


def draw_load(result: Row, file: Path) -> None:
    """Latency against offered load of a result of `load`."""
    machine = result["machine"]
    title = f"Requests at random times, {machine['cores']} cores: {machine['cpu']}"
    draw_latency([row for row in result["rows"] if "offered_per_s" in row], title, file)


def draw_throughput(rows: Sequence[Mapping[str, Any]], title: str, file: Path, limit: float | None = None) -> None:
    """A bar per candidate, the fastest on top, with a line from its least to its most.

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


def draw_latency(rows: Sequence[Row], title: str, file: Path) -> None:
    """Latency against offered load, of requests that arrive at random.

    Args:
        rows: of the result's `rows`, those with `offered_per_s`.
        title: above the lines.
        file: SVG.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullLocator

    ordered = sorted(rows, key=lambda row: row["offered_per_s"])
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    offered = [row["offered_per_s"] for row in ordered]
    styles = {"p50": (_OURS, "o-"), "p99": ("#d1495b", "s-"), "p99_9": ("#e0a030", "^:")}
    for name, (colour, style) in styles.items():
        times = [row["latency_ms"][name] for row in ordered]
        axes.plot(offered, times, style, color=colour, label=name.replace("_", "."))
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
