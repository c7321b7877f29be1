"""A new version that runs on a share of another's inputs, unseen by clients."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from runtime.deployment import Deployment
from runtime.errors import InvalidInput
from runtime.inputs import Image, Input
from runtime.observer import ShadowObserver
from runtime.outputs import Output, Prediction, Scores
from runtime.phases import PhaseClock

_PAUSE_S = 0.01  # until a primary that has inputs waiting is looked at again
_FINEST = 1_000_000  # denominator of a share


@dataclass(frozen=True)
class ShadowRules:
    """What a shadow may take.

    Attributes:
        share: of the primary's answered inputs, above 0 and at most 1.
        backlog: most inputs that wait for the shadow; further ones are dropped.
        backlog_bytes: most bytes of the images that wait or run.
        timeout_s: longest time for one image, in seconds.
    """

    share: float
    backlog: int = 8
    backlog_bytes: int = 16 << 20
    timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"the share of a shadow must be above 0 and at most 1, not {self.share:g}")


@dataclass(frozen=True)
class ShadowReport:
    """How a shadow compares with its primary. Each input that was taken is compared, failed, dropped or waits.

    Attributes:
        share: of the primary's inputs that is taken.
        compared: inputs that both have answered.
        agreed: those with the same best label.
        dropped: inputs that were not run: the backlog was full, or the shadow was closed.
        failed: inputs for which the shadow gave no scores.
        score_difference_sum: of the absolute differences of the score of the primary's best label.
        primary_s_sum: of the primary's times from acceptance to scores, over the compared inputs, in seconds.
        shadow_s_sum: of the shadow's.
    """

    share: float
    compared: int = 0
    agreed: int = 0
    dropped: int = 0
    failed: int = 0
    score_difference_sum: float = 0.0
    primary_s_sum: float = 0.0
    shadow_s_sum: float = 0.0

    def __add__(self, other: ShadowReport) -> ShadowReport:
        """Both together, of two workers say."""
        return ShadowReport(
            self.share,
            self.compared + other.compared,
            self.agreed + other.agreed,
            self.dropped + other.dropped,
            self.failed + other.failed,
            self.score_difference_sum + other.score_difference_sum,
            self.primary_s_sum + other.primary_s_sum,
            self.shadow_s_sum + other.shadow_s_sum,
        )

    def to_json(self) -> dict[str, Any]:
        """As a JSON object; means are None where nothing was compared."""
        return {
            "share": self.share,
            "compared": self.compared,
            "agreed": self.agreed,
            "dropped": self.dropped,
            "failed": self.failed,
            "agreement": self._mean(self.agreed, 6),
            "mean_score_difference": self._mean(self.score_difference_sum, 6),
            "mean_primary_ms": self._mean(1000 * self.primary_s_sum, 3),
            "mean_shadow_ms": self._mean(1000 * self.shadow_s_sum, 3),
        }

    def _mean(self, total: float, digits: int) -> float | None:
        return round(total / self.compared, digits) if self.compared else None


class Primary(Protocol):
    """What a shadow asks of the deployment that answers clients: `Deployment` is one."""

    @property
    def waiting(self) -> int:
        """Inputs that are not on the engine yet."""
        ...


class _Taken(NamedTuple):
    """An input, and what the primary said.

    Attributes:
        data: a copy of the image.
        best: the primary's best label.
        seconds: that the primary took.
    """

    data: bytes
    best: Prediction
    seconds: float


class Shadow:
    """Takes every k-th input of a primary after its answer, and runs it when no input waits for the primary.

    One input runs at a time. What goes wrong in the shadow is counted and reaches no client.
    """

    def __init__(
        self,
        deployment: Deployment[Any, Any],
        primary: Primary,
        rules: ShadowRules,
        observer: ShadowObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Creates it on the running event loop.

        Args:
            deployment: of the new version, an image classifier, which has started. It is its owner's to close. To
                give way to clients it needs a CPU pool and a runner whose threads begin with `give_way_entirely`.
            primary: which answers clients.
            rules: what the shadow may take.
            observer: is told of each input.
            clock: tells the time in seconds.
        """
        self._deployment = deployment
        self._primary = primary
        self._rules = rules
        self._observer = observer
        self._now = clock
        self._step = Fraction(rules.share).limit_denominator(_FINEST) or Fraction(1, _FINEST)
        self._due = Fraction(0)
        self._backlog: deque[_Taken] = deque()
        self._bytes = 0
        self._report = ShadowReport(rules.share)
        self._working: asyncio.Task[None] | None = None
        self._closed = False

    def offer(self, given: Input, output: Output, clock: PhaseClock) -> None:
        """Tells of an input that the primary has answered, and takes it if it is due.

        Args:
            given: what the primary was given; an image that is taken is copied, anything else ignored.
            output: the primary's.
            clock: of the primary's answer.
        """
        if self._closed or not isinstance(given, Image) or not isinstance(output, Scores) or not self._is_due():
            return
        size = memoryview(given.data).nbytes
        if len(self._backlog) >= self._rules.backlog or self._bytes + size > self._rules.backlog_bytes:
            self._drop()
            return
        self._bytes += size
        self._backlog.append(_Taken(bytes(given.data), output.top(1)[0], _seconds(clock)))
        if self._working is None or self._working.done():
            self._working = asyncio.get_running_loop().create_task(self._work())

    def report(self) -> ShadowReport:
        """What was compared until now."""
        return self._report

    async def settled(self) -> None:
        """Waits until no input that was taken is left."""
        if self._working is not None:
            await asyncio.wait([self._working])

    async def close(self) -> None:
        """Takes no more inputs, drops what waits or runs, and returns when nothing runs."""
        self._closed = True
        if self._working is not None:
            self._working.cancel()
            await asyncio.wait([self._working])
        while self._backlog:
            self._backlog.popleft()
            self._drop()

    def _is_due(self) -> bool:
        """Every k-th input, exactly: 0.1 takes one of ten."""
        self._due += self._step
        if self._due < 1:
            return False
        self._due -= 1
        return True

    async def _work(self) -> None:
        while self._backlog:
            while self._primary.waiting:  # noqa: ASYNC110  an event would cost each of its inputs something
                await asyncio.sleep(_PAUSE_S)
            taken = self._backlog.popleft()
            try:
                await self._compare(taken)
            except asyncio.CancelledError:
                self._drop()
                raise
            except Exception:  # the new version's, which is on trial here
                self._fail()
            finally:
                self._bytes -= len(taken.data)

    async def _compare(self, taken: _Taken) -> None:
        clock = PhaseClock(self._now)
        deadline = time.monotonic() + self._rules.timeout_s
        scores = await self._deployment.infer(Image(taken.data), clock, deadline)
        if not isinstance(scores, Scores):
            raise InvalidInput("The new version gives no scores.")
        agreed = scores.top(1)[0].label == taken.best.label
        difference = abs(_score_of(taken.best, scores) - taken.best.score)
        seconds = _seconds(clock)
        self._report += ShadowReport(self._rules.share, 1, int(agreed), 0, 0, difference, taken.seconds, seconds)
        if self._observer:
            self._observer.compared(agreed, difference, taken.seconds, seconds)

    def _drop(self) -> None:
        self._report += ShadowReport(self._rules.share, dropped=1)
        if self._observer:
            self._observer.dropped()

    def _fail(self) -> None:
        self._report += ShadowReport(self._rules.share, failed=1)
        if self._observer:
            self._observer.failed()


def _score_of(best: Prediction, scores: Scores) -> float:
    """The score of a label, at whatever position; 0 where the version does not know it."""
    labels, index = scores.labels, best.index
    if index >= len(labels) or labels[index] != best.label:
        if best.label not in labels:
            return 0.0
        index = labels.index(best.label)
    return float(scores.values[index])


def _seconds(clock: PhaseClock) -> float:
    """From acceptance to scores: without the upload."""
    return sum(seconds for phase, seconds in clock.seconds.items() if phase != "read")
