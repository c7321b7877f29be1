"""The table as an image: throughput and latency against batch size, one line per candidate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from models.optimize.trial import Trial


def draw(file: Path, title: str, trials: Sequence[Trial]) -> None:
    """Writes an SVG with each candidate at its best setting; does nothing where matplotlib is not installed."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return
    figure = Figure(figsize=(11, 4.5), layout="constrained")
    throughput, latency = figure.subplots(1, 2)
    sizes: list[int] = []
    for trial in trials:
        if trial.speed:
            sizes = list(trial.speed.latency_ms)
            milliseconds = list(trial.speed.latency_ms.values())
            name = f"{trial.name} ({trial.speed.setting})"
            speeds = [1000 * size / ms for size, ms in zip(sizes, milliseconds, strict=True)]
            throughput.plot(sizes, speeds, marker="o", markersize=3, label=name)
            latency.plot(sizes, milliseconds, marker="o", markersize=3, label=name)
    for axes, what in ((throughput, "images/s"), (latency, "ms per batch")):
        axes.set_xlabel("batch size")
        axes.set_ylabel(what)
        axes.set_xscale("log", base=2)
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.grid(visible=True, alpha=0.3)
    throughput.set_ylim(bottom=0)
    latency.set_yscale("log")
    figure.legend(*throughput.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=7)
    figure.suptitle(title)
    figure.savefig(file, metadata={"Date": None})
