"""What is logged, and what the lines look like."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from server.operations.repeated_errors import RepeatedErrors

log = logging.getLogger("snapserve")

# What moves a terminal's cursor or ends a line: clients and archives choose parts of what is logged.
_ESCAPES = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if chr(code) not in "\t\n"}
_INDENT = "  "  # of all lines of a message but its first


def set_up_logs(level: str, process: str = "") -> None:
    """Lines of at least that level go to the standard error, with the process where there are several.

    So do exceptions that nothing has caught, and Python's warnings.
    """
    name = " ".join(filter(None, ("%(levelname)s", process, "%(name)s")))
    handler = logging.StreamHandler()
    handler.addFilter(RepeatedErrors())
    handler.setFormatter(PlainFormatter(f"%(asctime)s {name}: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(True)
    threading.excepthook = _log_of_thread
    sys.excepthook = _log_uncaught


class PlainFormatter(logging.Formatter):
    """Formats a message so that nothing in it looks like another one's line, and no terminal obeys it."""

    def format(self, record: logging.LogRecord) -> str:
        """The text of a record, without control characters; lines but the first are indented."""
        return super().format(record).translate(_ESCAPES).rstrip("\n").replace("\n", f"\n{_INDENT}")


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "?"
    log.error("thread %s ended", name, exc_info=failed.exc_value)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends", exc_info=error)
