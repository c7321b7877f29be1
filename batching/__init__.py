"""A generic batcher: gathers single items into batches. No torch, no HTTP."""

from batching.batcher import Answer, Batcher
from batching.errors import BatcherClosed, BatchingError, DeadlineExceeded, ItemFailed, QueueFull, TooLate
from batching.policy import BatchPolicy, Decision, Run, Wait

__all__ = [
    "Answer",
    "BatchPolicy",
    "Batcher",
    "BatcherClosed",
    "BatchingError",
    "DeadlineExceeded",
    "Decision",
    "ItemFailed",
    "QueueFull",
    "Run",
    "TooLate",
    "Wait",
]
