"""How late the event loop is while each engine of a bundle is saturated: `python -m benchmark lag`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from benchmark.harness.clients import scrape, wrk
from benchmark.harness.photos import PORTRAIT
from benchmark.harness.results import Row, add_option, add_parser, print_table, write_result
from benchmark.harness.server import ROOT, ServerProcess
from models.bundles.bundle import ModelBundle
from models.engines import UNSERVABLE

METRIC = "snapserve_event_loop_lag_seconds"
LIMIT_S = 0.01


@dataclass(frozen=True)
class Histogram:
    """Counts of samples.

    Attributes:
        up_to: upper bound -> samples that are at most that, in ascending order; the last bound is infinite.
    """

    up_to: Mapping[float, float]

    @classmethod
    def read(cls, url: str, name: str) -> Histogram:
        """The histogram of that name without labels, as the server at `url` shows it now."""
        buckets = (sample for sample in scrape(url) if sample.name == f"{name}_bucket")
        return cls({float(sample.labels["le"]): sample.value for sample in buckets})

    @property
    def count(self) -> float:
        """All samples."""
        return self.up_to[math.inf]

    def since(self, earlier: Histogram) -> Histogram:
        """What came after an earlier reading."""
        return Histogram({bound: count - earlier.up_to[bound] for bound, count in self.up_to.items()})

    def together(self, other: Histogram) -> Histogram:
        """The samples of both."""
        return Histogram({bound: count + other.up_to[bound] for bound, count in self.up_to.items()})

    def quantile(self, share: float) -> float:
        """The least bound that at least that share of the samples does not exceed."""
        return next(bound for bound, count in self.up_to.items() if count >= share * self.count)

    def share_up_to(self, bound: float) -> float:
        """The part of the samples that is at most `bound`, which is one of the bounds."""
        return self.up_to[bound] / self.count


class Round(NamedTuple):
    """One engine under load for some seconds."""

    requests_per_s: float
    lag: Histogram


def add_command(commands: Any) -> None:
    """Adds `lag` to the command line."""
    parser = add_parser(commands, "lag", __doc__, run)
    parser.add_argument("--model", type=Path, default=ROOT / "models" / "store" / "resnet18", help="bundle")
    parser.add_argument("--engine", action="append", help="of the bundle; may be repeated; default: all")
    parser.add_argument("--image", type=Path, default=PORTRAIT, help="default: 64 KB")
    add_option(parser, "rounds", 5)
    add_option(parser, "seconds", 6, "of each round")
    add_option(parser, "warm-up", 2, "seconds before each round")
    add_option(parser, "connections", 64)


def run(options: argparse.Namespace) -> int:
    """Measures in interleaved rounds, prints the table, writes the JSON."""
    engines = options.engine or _servable(options.model)
    rounds: dict[str, list[Round]] = {engine: [] for engine in engines}
    for _ in range(options.rounds):
        for engine in engines:
            # One server at a time: an idle one runs its timers, too, and disturbs the one that is measured.
            with ServerProcess("--model", str(options.model), "--engine", engine) as server:
                _measure(server.url, options, options.warm_up)
                rounds[engine].append(_measure(server.url, options, options.seconds))
    rows = [summary(engine, measured) for engine, measured in rounds.items()]
    print_table("the event loop's lag: upper bounds", [_shown(row) for row in rows])
    write_result("lag", options, rows=rows)
    return 0


def _servable(folder: Path) -> list[str]:
    engines = ModelBundle.load(folder).spec.engines
    return [name for name, engine in engines.items() if engine.kind not in UNSERVABLE]


def _measure(url: str, options: argparse.Namespace, seconds: int) -> Round:
    before = Histogram.read(url, METRIC)
    load = wrk(url, options.image, options.connections, seconds)
    return Round(load["requests"] / load["seconds"], Histogram.read(url, METRIC).since(before))


def summary(engine: str, rounds: Sequence[Round]) -> Row:
    """Requests per second as the median of the rounds; the lag, in upper bounds, over all their samples."""
    lag = reduce(Histogram.together, (each.lag for each in rounds))
    return {
        "engine": engine,
        "requests_per_s": round(median(each.requests_per_s for each in rounds), 1),
        "requests_per_s_rounds": [round(each.requests_per_s, 1) for each in rounds],
        "lag_p50_ms": lag.quantile(0.5) * 1000,
        "lag_p99_ms": lag.quantile(0.99) * 1000,
        "lag_p99_ms_rounds": [each.lag.quantile(0.99) * 1000 for each in rounds],
        "under_10_ms": round(lag.share_up_to(LIMIT_S), 5),
        "samples": lag.count,
    }


def _shown(row: Row) -> Row:
    return {
        "engine": row["engine"],
        "requests/s": row["requests_per_s"],
        "p50 ms": f"≤ {row['lag_p50_ms']:g}",
        "p99 ms": f"≤ {row['lag_p99_ms']:g}",
        "p99 by round": " ".join(f"{bound:g}" for bound in row["lag_p99_ms_rounds"]),
        "under 10 ms": f"{row['under_10_ms']:.2%}",
        "samples": f"{row['samples']:.0f}",
    }
