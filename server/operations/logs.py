"""What the log's lines look like, and how much of an error that comes again and again they tell."""

from __future__ import annotations

import copy
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

log = logging.getLogger("snapserve")

_AGAIN_S = 60.0  # until the traceback of the same kind of error is written again
_LONGEST = 300  # characters of an error's message
_MOST_KINDS = 1000


def set_up_logs(level: str, process: str = "") -> None:
    """Lines of at least that level go to the standard error, with the process where there are several.

    So do exceptions that nothing has caught, and Python's warnings.
    """
    name = " ".join(filter(None, ("%(levelname)s", process, "%(name)s")))
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(f"%(asctime)s {name}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    threading.excepthook = _log_of_thread
    sys.excepthook = _log_uncaught


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "?"
    log.error("thread %s ended", name, exc_info=failed.exc_value)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends", exc_info=error)


@dataclass
class _Kind:
    """A kind of error: when its traceback was written, and how many were left out since."""

    written_at: float
    left_out: int = 0


class LineFormatter(logging.Formatter):
    """An error is one line: what failed, the error and its place. Its traceback follows once per kind and minute.

    The kind of an error is its class and its place. The next traceback of a kind tells how many were left out.
    """

    def __init__(self, format: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it.

        Args:
            format: of the line, as of `logging.Formatter`.
            clock: tells seconds.
        """
        super().__init__(format)
        self._now = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def format(self, record: logging.LogRecord) -> str:
        """The line, and the traceback where it is due."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return super().format(record)
        cause = _first_cause(error)
        place = _place_of(cause)
        plain = copy.copy(record)
        plain.exc_info = plain.exc_text = plain.stack_info = None
        line = f"{super().format(plain)}: {_in_one_line(cause)} ({place})"
        left_out = self._due(type(cause).__qualname__, place)
        if left_out is None:
            return line
        more = f"; {left_out} tracebacks like this one were left out" if left_out else ""
        return f"{line}{more}\n{self.formatException((type(error), error, error.__traceback__))}"

    def _due(self, name: str, place: str) -> int | None:
        """Tracebacks of this kind left out since the last one; None where this one is to be left out, too."""
        now, kind = self._now(), self._kinds.get((name, place))
        if kind is not None and now < kind.written_at + _AGAIN_S:
            kind.left_out += 1
            return None
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        self._kinds[name, place] = _Kind(now)
        return kind.left_out if kind else 0


def _first_cause(error: BaseException) -> BaseException:
    seen = {id(error)}
    while error.__cause__ is not None and id(error.__cause__) not in seen:
        error = error.__cause__
        seen.add(id(error))
    return error


def _place_of(error: BaseException) -> str:
    """Where it was raised; without the source, which would be read from the disk."""
    steps = list(traceback.walk_tb(error.__traceback__))
    return f"{steps[-1][0].f_code.co_filename}:{steps[-1][1]}" if steps else "?"


def _in_one_line(error: BaseException) -> str:
    """Class and message, in printable ASCII: parts of it may come from a client or a model."""
    text = " ".join("".join(traceback.format_exception_only(error)).split())
    return text.encode("unicode_escape").decode("ascii")[:_LONGEST]
