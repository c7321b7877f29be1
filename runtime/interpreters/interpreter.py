"""One interpreter as the manager sees it: a process that is replaced when it ends."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.interpreters import channel
from runtime.interpreters.errors import InterpreterEnded, InterpreterError, NoSuchAttribute
from runtime.interpreters.evaluation import Expression
from runtime.interpreters.host import Process
from runtime.interpreters.library import Library
from runtime.interpreters.storages import Outbox, Parcel
from runtime.processes.frames import Message

_STANDARD = (1, 2)  # descriptors: output, error


@dataclass(frozen=True)
class Replica:
    """An object that every interpreter can have."""

    number: int
    parcel: Parcel


@dataclass(frozen=True)
class Request:
    """What an interpreter is to evaluate.

    Attributes:
        expression: JSON.
        give: what comes back: "value", "object" (a number), "move" or "copy" (a pickle, with its storages so).
        outbox: the storages of the expression.
        process: that has the objects of the expression; None: any.
        replica: that the expression names, unpickled there if it is not yet.
    """

    expression: Expression
    give: str
    outbox: Outbox = field(default_factory=Outbox)
    process: Process | None = None
    replica: Replica | None = None


@dataclass(frozen=True)
class Answer:
    """What came back, from which process."""

    message: Message
    descriptors: Sequence[int]
    process: Process


class Interpreter:
    """One of the manager's interpreters. It does one thing at a time; callers on other threads wait.

    Attributes:
        number: of it; `torch.version.interp` there.
    """

    def __init__(self, number: int, start: Callable[[], Process], library: Library) -> None:
        """Starts its process.

        Args:
            number: of it.
            start: starts a process.
            library: what it is to know.
        """
        self.number = number
        self._start = start
        self._library = library
        self._lock = threading.Lock()
        self._dropped: deque[tuple[Process, int]] = deque()
        self._unloaded: deque[int] = deque()
        self._objects: list[int] = []  # that the process is to let go with the next message
        self._replicas: list[int] = []
        with self._lock:
            self._process = self._started()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def ask(self, request: Request) -> Answer:
        """Evaluates. Raises InterpreterError: what the code there raised, or the end of the process."""
        request.outbox.finish()
        try:
            with self._lock:
                self._gather()
                process = self._running(request.process)
                if request.replica is not None:
                    self._load(process, request.replica)
                message = {"do": "evaluate", "expression": request.expression, "give": request.give}
                reply, descriptors = self._exchange(process, message, request.outbox)
        finally:
            request.outbox.close()
        if "error" in reply:
            raise self._error(reply, request.expression)
        return Answer(reply, descriptors, process)

    def drop(self, process: Process, number: int) -> None:
        """Lets an object go, with the next message: this is called by garbage collection, anywhere."""
        self._dropped.append((process, number))

    def unload(self, number: int) -> None:
        """Lets a replica go: now, or after what it is doing."""
        self._unloaded.append(number)
        self.flush()

    def flush(self) -> None:
        """Lets go what was dropped, unless it is busy: then that comes with the next message."""
        if self._lock.acquire(blocking=False):
            try:
                self._gather()
                if self._process.is_running:
                    with contextlib.suppress(OSError):
                        self._send(self._process, {"do": "forget"}, None)
            finally:
                self._lock.release()

    def _started(self) -> Process:
        process = self._start()
        self._version = 0
        self._loaded: set[int] = set()
        self._objects, self._replicas = [], []
        standard = [each for each in _STANDARD if _is_open(each)]
        if len(standard) == len(_STANDARD):
            channel.send(process.end, {"do": "output"}, standard)
        return process

    def _running(self, wanted: Process | None) -> Process:
        if not self._process.is_running:
            self._process.kill()
            self._process.end.close()
            self._process = self._started()
        if wanted is not None and wanted is not self._process:
            raise InterpreterEnded(
                f"interpreter {self.number}: the object is gone, its process ended: {wanted.how}"
            )
        return self._process

    def _load(self, process: Process, replica: Replica) -> None:
        if replica.number in self._loaded:
            return
        parcel = replica.parcel
        message = {"do": "load", "replica": replica.number, "pickle": parcel.pickle}
        reply, _ = self._exchange(process, message, parcel)
        if "error" in reply:
            raise self._error(reply, [])
        self._loaded.add(replica.number)

    def _exchange(
        self, process: Process, message: Message, cargo: Outbox | Parcel
    ) -> tuple[Message, Sequence[int]]:
        try:
            self._send(process, message, cargo)
            received = channel.receive(process.end)
        except OSError:
            received = None
        except BaseException:  # Ctrl-C: its answer would be taken for the next one's
            process.gone("its caller was interrupted")
            process.kill()
            raise
        if received is None:
            process.kill()  # it may live without its socket
            raise InterpreterEnded(f"interpreter {self.number}: its process ended: {process.last_words()}")
        return received

    def _send(self, process: Process, message: Message, cargo: Outbox | Parcel | None) -> None:
        version = self._library.version
        told = {
            "news": self._library.since(self._version),
            "objects": self._objects,
            "replicas": self._replicas,
            "extents": cargo.extents if cargo else (),
        }
        channel.send(process.end, {**message, **told}, cargo.descriptors if cargo else ())
        self._version = version
        self._objects, self._replicas = [], []

    def _gather(self) -> None:
        """Takes what other threads have dropped, so that a replica that was unloaded is loaded again."""
        self._objects += [number for owner, number in _taken(self._dropped) if owner is self._process]
        unloaded = _taken(self._unloaded)
        self._loaded.difference_update(unloaded)
        self._replicas += unloaded

    def _error(self, reply: Message, expression: Expression) -> InterpreterError:
        kind, text, trace = reply["error"], reply["text"], reply["trace"]
        words = f"interpreter {self.number}: {kind}: {text}\n\n{trace}" if kind else text
        is_lookup = kind == "AttributeError" and expression[:1] == ["attribute"]
        return (NoSuchAttribute if is_lookup else InterpreterError)(words, kind)


def _taken(queue: deque[Any]) -> list[Any]:
    """What is in a queue, which other threads fill meanwhile."""
    return [queue.popleft() for _ in range(len(queue))]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True
