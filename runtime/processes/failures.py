"""An error in a child: as it tells its parent, and as the parent raises it."""

from __future__ import annotations

import traceback

from models.errors import ModelError
from runtime.errors import EngineRaised, HandlerFailed, ModelRaised, UnsupportedOutput
from runtime.processes.frames import BrokenFrame, Message

_LONGEST_TEXT = 2000  # characters of an error that are sent
_LONGEST_TRACE = 20_000


def told(error: Exception) -> Message:
    """What a child sends of an error."""
    trace = "".join(traceback.format_exception(error))[-_LONGEST_TRACE:]
    text = str(error)[:_LONGEST_TEXT]
    message = {"error": type(error).__name__, "text": text, "trace": trace, "model": isinstance(error, ModelError)}
    if isinstance(error, HandlerFailed):
        message |= {"why": error.why, "code": error.code}
    if isinstance(error, ModelRaised):
        message["raised"] = getattr(error, "what", "")
    return message


def raised(reply: Message) -> Exception:
    """The error of an engine; the text of what is no `ModelRaised` is for the log alone. Raises BrokenFrame."""
    try:
        return _raised(reply)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BrokenFrame("no error of an engine") from None


def _raised(reply: Message) -> Exception:
    text = str(reply["text"])
    if "why" in reply:
        error: Exception = HandlerFailed(str(reply["why"]), int(reply["code"]), text)
    elif "raised" not in reply:
        error = EngineRaised(line_of(reply))
    else:
        error = UnsupportedOutput(str(reply["raised"]), text) if reply["raised"] else ModelRaised(text)
    error.__cause__ = _Trace(reply["trace"])
    return error


def line_of(reply: Message) -> str:
    """An error in one line."""
    return f"{reply['error']}: {(reply['text'].strip().splitlines() or [''])[0]}"


class _Trace(Exception):
    """The traceback of an error in another process, as text."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0])
