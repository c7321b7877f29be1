"""One process of the load: sends requests when they are due, and checks every answer."""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from benchmark.load.connections import Connections, Exchange, Reply
from benchmark.load.plan import Plan
from benchmark.load.tally import Tally

_AT_ONCE = 16  # requests sent in one turn of the loop when it is behind; answers are read in between
_BLOCK = 4096  # choices drawn together
_GRACE_S = 1.0
_LONGEST_RETRY_S = 60.0
_CLOCK_MONOTONIC, _ABSOLUTE, _NONBLOCKING = 1, 1, os.O_NONBLOCK  # linux/time.h, sys/timerfd.h


class Generator(ABC):
    """What open and closed loop have in common: requests out, answers checked."""

    def __init__(self, plan: Plan, start_s: float) -> None:
        """Prepares the requests; `start_s` is the start in monotonic time, shared by all processes."""
        self.plan = plan
        self.start_s = start_s
        self.tally = Tally(from_s=start_s + plan.warm_up_s)
        self._bodies = plan.bodies()
        self._heads = [plan.head(len(body)) for body in self._bodies]
        self._choices: list[int] = []
        self._connections = Connections(*plan.address, plan.connections, plan.timeout_s, self)
        self._done = asyncio.Event()
        self._under_way = 0

    def send(self, due: float) -> None:
        """Sends the next request, which was due at that monotonic time."""
        number = self.tally.sent
        if number % _BLOCK == 0:
            self._choices = self.plan.choices(_BLOCK, number // _BLOCK)
        question = self._choices[number % _BLOCK]
        request_id = f"{self.plan.name}-{number}"
        head = f"{self._heads[question]}{request_id}\r\n\r\n".encode()
        self.tally.sent += 1
        self._under_way += 1
        self._connections.send(Exchange(due, question, request_id, head, self._bodies[question]))

    def sending(self, exchange: Exchange) -> None:
        """Notes how late a request is sent."""
        if exchange.due >= self.tally.from_s:
            self.tally.late_s.append(time.monotonic() - exchange.due)

    def answered(self, exchange: Exchange, reply: Reply) -> float | None:
        """Counts an answer; its time is taken before it is checked. Returns when to send a refused one again."""
        now = time.monotonic()
        tally, question = self.tally, self.plan.questions[exchange.question]
        if reply.status == 503:
            if (again_s := self._refused(exchange, reply, now)) is not None:
                return again_s
        elif reply.status != 200:
            tally.errors[f"status {reply.status}"] += 1
            tally.note(f"{question.name}: {reply.status} {reply.body[:200]!r}")
        elif fault := self._fault(exchange, reply):
            tally.wrong += 1
            tally.note(f"{question.name}: {fault}")
        else:
            tally.ok += 1
            tally.retried_ok += exchange.is_retry
            if exchange.due >= tally.from_s:
                tally.latency_s.append(now - exchange.due)
                tally.until_s = now
        self._ended()
        return None

    def _refused(self, exchange: Exchange, reply: Reply, now: float) -> float | None:
        tally, after_s, retry = self.tally, reply.retry_after_s, self.plan.retry
        tally.refused += 1
        tally.refused_s.append(now - exchange.due)
        if after_s is None:
            tally.without_retry_after += 1
        else:
            tally.retry_after_s.append(after_s)
        if exchange.is_retry or not retry or after_s is None:
            return None
        tally.retried += 1
        return after_s if retry == "obey" else float(retry)

    def failed(self, exchange: Exchange, kind: str) -> None:
        """Counts a request without an answer."""
        self.tally.errors[kind] += 1
        self._ended()

    def _fault(self, exchange: Exchange, reply: Reply) -> str:
        if reply.request_id != exchange.request_id:
            return f"X-Request-ID is {reply.request_id!r}, not {exchange.request_id!r}"
        question = self.plan.questions[exchange.question]
        return question.fault_of_body(reply.body, exchange.request_id, self.plan.rules)

    def _ended(self) -> None:
        self._under_way -= 1
        if not self._under_way and self.is_over():
            self._done.set()

    @abstractmethod
    def is_over(self) -> bool:
        """Whether no further request will be sent."""

    @abstractmethod
    def begin(self) -> None:
        """Sends the first requests, or sees to it that they are sent."""

    async def run(self, longest_s: float) -> Tally:
        """Runs until every request has ended; what has not within `longest_s` seconds counts as unanswered."""
        self.begin()
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + longest_s):
                await self._done.wait()
        except TimeoutError:
            if self.tally.lost:
                self.tally.errors["unanswered"] += self.tally.lost
        tally, self.tally = self.tally, Tally()  # what is dropped now is in it already
        self._connections.close()
        return tally


class OpenLoop(Generator):
    """Sends when requests are due, whatever became of those before."""

    def __init__(self, plan: Plan, start_s: float) -> None:
        super().__init__(plan, start_s)
        assert plan.due_s is not None
        self._due: list[float] = (plan.due_s + start_s).tolist()
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._send_due)

    def begin(self) -> None:
        """Waits for the first request's time."""
        if self._due:
            self._alarm.set(self._due[0])
        else:
            self._done.set()

    def is_over(self) -> bool:
        """Whether all requests were sent."""
        return self.tally.sent == len(self._due)

    def _send_due(self) -> None:
        due, now = self._due, time.monotonic()
        for _ in range(_AT_ONCE):
            if self.is_over() or due[self.tally.sent] > now:
                break
            self.send(due[self.tally.sent])
        if not self.is_over():
            self._alarm.set(due[self.tally.sent])

    async def run(self, longest_s: float) -> Tally:
        """Frees the timer at the end."""
        try:
            return await super().run(longest_s)
        finally:
            self._alarm.close()


class ClosedLoop(Generator):
    """As many requests under way as there are connections: each answer brings the next request."""

    def begin(self) -> None:
        """Waits for the start."""
        asyncio.get_running_loop().call_later(max(0.0, self.start_s - time.monotonic()), self._fill)

    def _fill(self) -> None:
        for _ in range(self.plan.connections):
            self.send(time.monotonic())

    def is_over(self) -> bool:
        """Whether the time is over."""
        return time.monotonic() >= self.start_s + self.plan.seconds

    def _ended(self) -> None:
        super()._ended()
        if not self.is_over():
            self.send(time.monotonic())


async def generate(plan: Plan, start_s: float) -> Tally:
    """Runs a plan from `start_s`, monotonic time, on the running loop."""
    last = plan.seconds if plan.due_s is None else float(plan.due_s.max(initial=0))
    generator = ClosedLoop(plan, start_s) if plan.due_s is None else OpenLoop(plan, start_s)
    return await generator.run(
        start_s - time.monotonic() + last + plan.timeout_s + (_LONGEST_RETRY_S if plan.retry else 0.0) + _GRACE_S
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """Wakes an event loop at a moment, to some 50 µs; a loop's own timers count whole milliseconds.

    A Linux timerfd (https://man7.org/linux/man-pages/man2/timerfd_create.2.html), which Python 3.13 has itself;
    elsewhere the loop's timer.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        """Calls `ring` on the loop when the moment has come that `set` named last."""
        self._loop = loop
        self._ring = ring
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING)
            loop.add_reader(self._file, self._expired)

    def set(self, moment: float) -> None:
        """Rings at `moment`, of `time.monotonic()`; at once if that has passed."""
        if self._file < 0:
            self._loop.call_later(moment - time.monotonic(), self._ring)
            return
        seconds, rest = divmod(max(1, round(moment * 1e9)), 1_000_000_000)
        spec = _TimerSpec(value=_TimeSpec(seconds, rest))
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(spec), None)

    def close(self) -> None:
        """Frees the timer."""
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)

    def _expired(self) -> None:
        os.read(self._file, 8)
        self._ring()
