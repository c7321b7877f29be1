"""How much of an error that comes again and again is logged."""

from __future__ import annotations

import logging
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

_PERIOD_S = 60.0
_MOST_LINES = 100  # of a kind in a period
_BEGINNING, _END = 80, 160  # characters that are kept of a long message; torch's tells the reason last
_MOST_KINDS = 1000


@dataclass
class _Kind:
    """Errors of one class, raised at one place, since the beginning of a period."""

    since: float
    lines: int = 0
    left_out: int = 0


class RepeatedErrors(logging.Filter):
    """Makes a logged error one line: what failed, the error and its place; its traceback once per kind and minute.

    The class of an error and its place are its kind. Beyond a hundred lines of a kind in a minute further ones are
    left out; the next line of the kind tells how many.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Creates it.

        Args:
            clock: tells seconds.
        """
        super().__init__()
        self._now = clock
        self._kinds: dict[tuple[str, str], _Kind] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is to be written; changes one of an error."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return True
        cause = _first_cause(error)
        place, before = _place_of(cause), 0
        name = (type(cause).__qualname__, place)
        kind = self._kinds.get(name)
        if kind is None or self._now() >= kind.since + _PERIOD_S:
            before, kind = kind.left_out if kind else 0, self._begin(name)
        else:
            record.exc_info = None
        if kind.lines >= _MOST_LINES:
            kind.left_out += 1
            return False
        kind.lines += 1
        more = f"; {before} more like this were left out" if before else ""
        record.msg, record.args = f"{record.getMessage()}: {_in_one_line(cause)} ({place}){more}", ()
        return True

    def _begin(self, name: tuple[str, str]) -> _Kind:
        if len(self._kinds) >= _MOST_KINDS:
            self._kinds.clear()
        kind = self._kinds[name] = _Kind(self._now())
        return kind


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
    plain = text.encode("unicode_escape").decode("ascii")
    return plain if len(plain) <= _BEGINNING + _END else f"{plain[:_BEGINNING]} ... {plain[-_END:]}"
