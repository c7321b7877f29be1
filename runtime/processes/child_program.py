"""The program of a child: loads an engine and runs the batches that its parent writes into shared memory."""

from __future__ import annotations

import dataclasses
import logging
import resource
import socket
from importlib import import_module
from pathlib import Path
from typing import Any

from runtime.processes import frames
from runtime.processes.channel import PartChannel
from runtime.processes.failures import told
from runtime.processes.frames import Message
from runtime.processes.shared import Area


class ChildProgram:
    """Answers messages of the parent until it closes the socket. One batch at a time, on the main thread."""

    def __init__(self, end: socket.socket, batch: Area, rows: Area) -> None:
        """Creates it.

        Args:
            end: of the socket to the parent.
            batch: memory that the parent writes.
            rows: memory that this process writes.
        """
        self._end = end
        self._batch = batch
        self._rows = rows
        self._channel = PartChannel(end)
        self._engine: Any = None

    def run(self) -> None:
        """Returns when the parent has closed its end, or after an error that no later batch survives."""
        going = True
        while going and (received := frames.receive(self._end)):
            message, _ = received
            if "left" in message:  # a client, since the batch has ended
                continue
            reply, going = self._reply(message)
            frames.send(self._end, {"id": message["id"], **reply})
            if hasattr(self._engine, "serve"):  # it has a protocol of its own
                self._engine.serve(self._end)
                break
        close = getattr(self._engine, "close", None)
        if close is not None:
            close()

    def _reply(self, message: Message) -> tuple[Message, bool]:
        try:
            if "run" in message:
                self._channel.begin(message["id"])
                return {"rows": self._infer(message["run"]), **self._report()}, True
            return {"facts": self._load(message["load"], message["settings"], message["memory_mb"])}, True
        except Exception as error:
            return told(error), not _is_sticky(error.__cause__ or error)

    def _load(self, target: str, settings: Message, memory_mb: int) -> Message | None:
        if memory_mb:
            _limit_memory(memory_mb << 20)
        module, _, attribute = target.partition(":")
        self._engine = getattr(import_module(module), attribute)(**settings)
        if hasattr(self._engine, "connect"):
            self._engine.connect(self._channel)
        if hasattr(self._engine, "warm_up"):
            self._engine.warm_up()
        facts = getattr(self._engine, "facts", None)
        return dataclasses.asdict(facts) if facts is not None else None

    def _infer(self, groups: list[Any]) -> list[Any]:
        batch = self._batch.read(groups, copy=False)
        rows = self._engine.infer(batch)
        return self._rows.write(rows)

    def _report(self) -> Message:
        report = self._engine.report() if hasattr(self._engine, "report") else None
        return {} if report is None else {"report": report}


def _limit_memory(size: int) -> None:
    """Lets this process allocate so many bytes more; its libraries have taken much address space already."""
    limit = _allocated() + size
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))


def _allocated() -> int:
    """What counts against RLIMIT_DATA, in bytes: getrlimit(2), proc(5)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[5])
    except OSError:  # not Linux, where that limit is not enforced either
        return 0
    return pages * resource.getpagesize()


def _is_sticky(error: BaseException) -> bool:
    """Whether a device has failed so that only a new process can use it."""
    sticky = type(error).__name__ == "AcceleratorError" or "CUDA error" in str(error)
    if sticky:
        logging.error("the device has failed; the engine's process ends")
    return sticky
