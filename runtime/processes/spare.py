"""A process that has imported what engines need and waits: children are forked from it within milliseconds."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from runtime.processes import frames
from runtime.processes.child import Child
from runtime.processes.frames import FrameReader, Message
from runtime.processes.log_relay import LogRelay
from snapserve.interpreter import module_command

_MAIN = "runtime.processes.main"


class SpareDied(Exception):
    """The process ended before it gave a child."""


class Spare:
    """Starts the process when it is first needed, and again when it has ended.

    Attributes:
        pid: process id; 0 while it does not run.
    """

    def __init__(self, modules: Sequence[str]) -> None:
        """Creates it; the process will import `modules`."""
        self.pid = 0
        self._modules = modules
        self._lifeline: tuple[int, int] | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._end: socket.socket | None = None
        self._children: dict[int, Child] = {}
        self._forks: dict[int, asyncio.Future[int]] = {}
        self._numbers = itertools.count(1)
        self._ready: asyncio.Future[None] | None = None
        self._starting = asyncio.Lock()
        self._output: LogRelay | None = None

    async def fork(self, name: str) -> Child:
        """A new child, for the engine of that name. Raises SpareDied."""
        async with self._starting:
            if self._end is None:
                await self._start()
        if self._end is None:  # it has ended as soon as it was ready
            raise SpareDied(self._last_words())
        child, number = Child(name, self.kill), next(self._numbers)
        forked = self._forks[number] = asyncio.get_running_loop().create_future()
        try:
            frames.send(self._end, {"fork": number}, child.theirs)
            pid = await forked
        except OSError:
            raise SpareDied(self._last_words()) from None
        finally:
            del self._forks[number]
            if not forked.done() or forked.cancelled() or forked.exception():
                child.gone(None)
        child.forked(pid)
        self._children[pid] = child
        return child

    def kill(self, pid: int) -> None:
        """Kills a child. Without the spare process it has ended already."""
        if self._end is not None:
            with contextlib.suppress(OSError):
                frames.send(self._end, {"kill": pid})

    async def close(self) -> None:
        """Ends the process, and with it every child that is left."""
        self._hang_up()
        if self._process is not None:
            await self._process.wait()
        for each in self._lifeline or ():
            os.close(each)
        self._lifeline = None

    async def _start(self) -> None:
        """A new interpreter in a session of its own, so that Ctrl-C reaches its parent alone."""
        loop = asyncio.get_running_loop()
        self._lifeline = self._lifeline or os.pipe()
        ours, theirs = socket.socketpair()
        output = self._output = LogRelay("engines")
        try:
            with theirs:
                self._process = await asyncio.create_subprocess_exec(
                    *module_command(_MAIN, str(theirs.fileno()), str(self._lifeline[0])),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=output.descriptor,
                    stderr=output.descriptor,
                    pass_fds=(theirs.fileno(), self._lifeline[0]),
                    env=_environment(),
                    start_new_session=True,
                )
        except BaseException:  # a cancellation, too
            ours.close()
            output.close()
            raise
        output.started()
        ours.setblocking(False)
        self._end, self.pid, self._ready = ours, self._process.pid, loop.create_future()
        loop.add_reader(ours.fileno(), self._read, ours, FrameReader())
        frames.send(ours, {"import": list(self._modules)})
        await self._ready

    def _read(self, end: socket.socket, reader: FrameReader) -> None:
        try:
            data = end.recv(1 << 16)
            for message in reader.feed(data):
                self._take(message)
        except BlockingIOError:
            return
        except (OSError, frames.BrokenFrame):
            data = b""
        if not data:
            self._hang_up()

    def _take(self, message: Message) -> None:
        if "ended" in message:
            self._ended(message["ended"], message["code"])
        elif "forked" in message:
            if (forked := self._forks.get(message["forked"])) and not forked.done():
                forked.set_result(message["pid"])
        elif self._ready is not None and not self._ready.done():
            self._ready.set_result(None)

    def _ended(self, pid: int, code: int) -> None:
        if child := self._children.pop(pid, None):
            child.gone(code)

    def _hang_up(self) -> None:
        """It has ended, or is to end: its children end with it."""
        if self._end is None:
            return
        asyncio.get_running_loop().remove_reader(self._end.fileno())
        self._end.close()
        self._end, self.pid = None, 0
        assert self._output is not None
        self._output.close()
        for pid in list(self._children):
            self._children.pop(pid).orphaned()
        for waiting in (self._ready, *self._forks.values()):
            if waiting is not None and not waiting.done():
                waiting.set_exception(SpareDied(self._last_words()))

    def _last_words(self) -> str:
        last = self._output.last_line if self._output else "no output"
        return f"the process that engines are forked from ended: {last}"


def _environment() -> dict[str, str]:
    """The same modules as here, wherever they come from; OpenBLAS without threads, which a fork would lose."""
    path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
    return {**os.environ, "PYTHONPATH": path, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
