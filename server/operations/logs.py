"""What is logged, and what the lines look like."""

from __future__ import annotations

import logging
import sys
import threading
from types import TracebackType

from server.operations.repeated_errors import RepeatedErrors

log = logging.getLogger("snapserve")


def set_up_logs(level: str, process: str = "") -> None:
    """Lines of at least that level go to the standard error, with the process where there are several.

    So do exceptions that nothing has caught, and Python's warnings.
    """
    name = " ".join(filter(None, ("%(levelname)s", process, "%(name)s")))
    handler = logging.StreamHandler()
    handler.addFilter(RepeatedErrors())
    logging.basicConfig(level=level.upper(), format=f"%(asctime)s {name}: %(message)s", handlers=[handler])
    logging.captureWarnings(True)
    threading.excepthook = _log_of_thread
    sys.excepthook = _log_uncaught


def _log_of_thread(failed: threading.ExceptHookArgs) -> None:
    name = failed.thread.name if failed.thread else "?"
    log.error("thread %s ended", name, exc_info=failed.exc_value)


def _log_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    log.critical("the process ends", exc_info=error)
