"""Why an item has no result. No HTTP here: `server/http/faults.py` maps these to statuses."""


class BatchingError(Exception):
    """An item that was submitted and will not be answered with a result."""


class QueueFull(BatchingError):
    """The queue was full when the item came; it was not taken.

    Attributes:
        retry_after_s: seconds until the queue will have drained, at the rate measured lately.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the queue is full")
        self.retry_after_s = retry_after_s


class DeadlineExceeded(BatchingError):
    """The item's deadline passed before its batch was done."""


class TooLate(BatchingError):
    """The item could no longer be done in time, and was not begun."""


class BatcherClosed(BatchingError):
    """The batcher takes no more items."""


class ItemFailed(BatchingError):
    """The engine raised on this very item, alone in its batch. The engine's error is the `__cause__`."""
