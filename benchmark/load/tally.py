"""What came of the requests."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

PERCENTILES = {"p50": 50, "p90": 90, "p99": 99, "p99_9": 99.9, "max": 100}
_EXAMPLES = 5


@dataclass
class Tally:
    """Counts of all requests; times of those that were due after the warm-up.

    Attributes:
        sent: requests that were due.
        ok: answered with what is known to be right.
        wrong: answered with 200 and something else.
        refused: answered with 503.
        without_retry_after: of these, with no Retry-After.
        refused_s: from sending a request to its refusal, in seconds.
        retried: refused requests that were sent again, once.
        retried_ok: of these, answered with what is known to be right.
        retry_after_s: what the refused were told.
        errors: other ends, by kind.
        examples: the first wrong answers and errors, in words.
        latency_s: of the right answers, from when the request was due to the answer's last byte, in seconds.
        late_s: how much later than due each request was sent: the generator's own fault, part of its latency.
        from_s: monotonic time from which requests count.
        until_s: monotonic time of the last right answer.
        cpu_s: that the generator itself spent.
    """

    sent: int = 0
    ok: int = 0
    wrong: int = 0
    refused: int = 0
    without_retry_after: int = 0
    refused_s: list[float] = field(default_factory=list)
    retried: int = 0
    retried_ok: int = 0
    retry_after_s: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    latency_s: list[float] = field(default_factory=list)
    late_s: list[float] = field(default_factory=list)
    from_s: float = 0.0
    until_s: float = 0.0
    cpu_s: float = 0.0

    def note(self, example: str) -> None:
        """Keeps an example, if there are few."""
        if len(self.examples) < _EXAMPLES:
            self.examples.append(example)

    def add(self, other: Tally) -> None:
        """Takes in what another process counted of the same run."""
        self.sent += other.sent
        self.ok += other.ok
        self.wrong += other.wrong
        self.refused += other.refused
        self.without_retry_after += other.without_retry_after
        self.refused_s += other.refused_s
        self.retried += other.retried
        self.retried_ok += other.retried_ok
        self.retry_after_s += other.retry_after_s
        self.errors += other.errors
        self.latency_s += other.latency_s
        self.late_s += other.late_s
        self.cpu_s += other.cpu_s
        self.from_s = min(self.from_s or other.from_s, other.from_s)
        self.until_s = max(self.until_s, other.until_s)
        for example in other.examples:
            self.note(example)

    @property
    def lost(self) -> int:
        """Requests of which nothing is counted; 0 unless the generator is at fault."""
        return self.sent + self.retried - self.ok - self.wrong - self.refused - self.errors.total()

    @property
    def answered_per_s(self) -> float:
        """Right answers per second, after the warm-up."""
        return len(self.latency_s) / max(self.until_s - self.from_s, 1e-9)

    @property
    def late_p99_ms(self) -> float:
        """99th percentile of how late requests were sent, in milliseconds."""
        return float(np.percentile(self.late_s, 99)) * 1000 if self.late_s else 0.0

    def to_json(self) -> dict[str, Any]:
        """Counts, rates in 1/s, times in milliseconds."""
        latency_ms = np.array(self.latency_s or [np.nan]) * 1000
        return {
            "sent": self.sent,
            "ok": self.ok,
            "wrong": self.wrong,
            "refused": self.refused,
            "errors": dict(self.errors),
            "answered_per_s": round(self.answered_per_s, 1),
            "latency_ms": {
                name: round(float(np.percentile(latency_ms, percent)), 3) if self.latency_s else None
                for name, percent in PERCENTILES.items()
            },
            "late_p99_ms": round(self.late_p99_ms, 3),
            "generator_cpu_us": round(self.cpu_s / max(1, self.sent) * 1e6, 1),
            "examples": self.examples,
        }
