"""BatchPolicy.decide, by tables and by properties."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batching import BatchPolicy, Run, Wait

FIXED = BatchPolicy(max_batch_size=4, batch_timeout_ms=10)
BUSY = BatchPolicy(max_batch_size=4, batch_timeout_ms=0)


@pytest.mark.parametrize(
    ("policy", "queued", "age_s", "idle", "decision"),
    [
        (FIXED, 0, 0, True, Wait(None)),
        (FIXED, 1, 0, True, Wait(0.009)),
        (FIXED, 3, 0.004, True, Wait(0.005)),
        (FIXED, 4, 0, True, Run(4)),
        (FIXED, 9, 0, True, Run(4)),
        (FIXED, 1, 0.0089, True, Run(1)),
        (FIXED, 1, 0.010, True, Run(1)),
        (FIXED, 1, math.inf, True, Run(1)),
        (FIXED, 9, 1, False, Wait(None)),
        (BUSY, 0, 0, True, Wait(None)),
        (BUSY, 1, 0, True, Run(1)),
        (BUSY, 3, 0, True, Run(3)),
        (BUSY, 9, 0, True, Run(4)),
        (BUSY, 9, 0, False, Wait(None)),
    ],
)
def test_decides_as_the_table_says(policy, queued, age_s, idle, decision):
    got = policy.decide(queued, age_s, 0.0 if idle else None)
    assert type(got) is type(decision)
    assert got == pytest.approx(decision) if decision[0] is not None else got == decision


@given(
    policy=st.builds(BatchPolicy, st.integers(1, 64), st.floats(0, 1000)),
    queued=st.integers(0, 10_000),
    age_s=st.floats(0, 1e6),
    idle=st.booleans(),
)
def test_never_runs_more_than_allowed_and_never_waits_past_the_timeout(policy, queued, age_s, idle):
    decision = policy.decide(queued, age_s, 0.0 if idle else None)
    if isinstance(decision, Run):
        assert idle
        assert 1 <= decision.size <= min(queued, policy.max_batch_size)
    elif decision.seconds is not None:
        assert 0 < decision.seconds <= policy.batch_timeout_ms / 1000
    else:
        assert not (queued and idle), "an idle engine and waiting items need a time"


@pytest.mark.parametrize("wrong", [{"max_batch_size": 0}, {"batch_timeout_ms": -1}])
def test_refuses_impossible_values(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        BatchPolicy(**wrong)
