"""How often a model ran, and how long that took: Triton's statistics, from the figures of /metrics."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from runtime.model import ModelFacts
from server.http.context import Context

_PHASE, _BATCH, _FAILED = "snapserve_phase_seconds", "snapserve_batch_size", "snapserve_failed_seconds"
_NAMES = {"queue": "queue", "decode": "compute_input", "infer": "compute_infer"}  # phase -> Triton's name of it

Figures = dict[tuple[str, ...], float]


def statistics_of(context: Context, facts: ModelFacts | None, version: str | None) -> list[dict[str, Any]]:
    """Of each version, since the server was started and of all its workers.

    Args:
        context: of the server.
        facts: of the model that is asked for; None: all.
        version: of it; None: all.
    """
    figures = _figures(context.metrics.exposition().decode())
    return [
        _statistics(each.name, each.version, figures)
        for each in context.store.status()
        if (facts is None or each.name == facts.name) and version in (None, each.version)
    ]


def _figures(text: str) -> Figures:
    """Sums and counts by the name of the series, model, version and phase."""
    found: Figures = defaultdict(float)
    for family in text_string_to_metric_families(text):
        if family.name in (_PHASE, _BATCH, _FAILED):
            for sample in family.samples:
                labels = sample.labels
                key = sample.name, labels["model"], labels["version"], labels.get("phase", "")
                found[key] += 0.0 if sample.name.endswith("_bucket") else sample.value
    return found


def _statistics(name: str, version: str, figures: Figures) -> dict[str, Any]:
    def of(series: str, phase: str = "") -> int:
        return round(figures.get((series, name, version, phase), 0.0))

    def time_of(series: str, phase: str = "") -> dict[str, int]:
        seconds = figures.get((f"{series}_sum", name, version, phase), 0.0)
        return {"count": of(f"{series}_count", phase), "ns": round(seconds * 1e9)}

    times = {theirs: time_of(_PHASE, ours) for ours, theirs in _NAMES.items()}
    total = {"count": times["compute_infer"]["count"], "ns": sum(each["ns"] for each in times.values())}
    nothing = {"count": 0, "ns": 0}
    return {
        "name": name,
        "version": version,
        "inference_count": of(f"{_BATCH}_sum"),
        "execution_count": of(f"{_BATCH}_count"),
        "inference_stats": {"success": total, "fail": time_of(_FAILED), **times, "compute_output": nothing},
        "batch_stats": [],
    }
