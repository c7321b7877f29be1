"""PhaseClock with a clock that the test turns."""

from __future__ import annotations

from itertools import count

from runtime.phases import PhaseClock


def test_the_phases_are_consecutive_and_add_up():
    ticks = iter([10.0, 10.001, 10.004, 10.02])
    clock = PhaseClock(lambda: next(ticks))
    clock.mark("read")
    clock.mark("decode")
    clock.mark("queue", at=10.005)
    clock.mark("infer")
    assert clock.timing_ms() == {"read": 1.0, "decode": 3.0, "queue": 1.0, "infer": 15.0, "total": 20.0}
    assert clock.server_timing() == "read;dur=1.0, decode;dur=3.0, queue;dur=1.0, infer;dur=15.0, total;dur=20.0"


def test_a_fork_goes_on_from_the_last_mark_on_its_own():
    ticks = count(0)
    clock = PhaseClock(lambda: float(next(ticks)))
    clock.mark("read")
    fork = clock.fork()
    fork.mark("decode")
    assert fork.seconds == {"decode": 1.0}
    assert clock.seconds == {"read": 1.0}
