"""One child as its parent sees it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from models.errors import EngineError
from runtime.errors import EngineDied, EngineFault, EngineTimeout
from runtime.processes import failures, frames
from runtime.processes.frames import FrameReader, Message
from runtime.processes.log_relay import LogRelay
from runtime.processes.parts import BatchParts
from runtime.processes.recipe import Recipe
from runtime.processes.shared import Area, BrokenBatch

REASONS = ("timeout", "cancelled", "killed", "signal", "exit", "spare", "load", "unknown")
"""Why a child ended: killed at the time limit of a batch, or because no client waited for its batch; killed
by others, the kernel for lack of memory, say; by another signal; by itself; with the process that it was forked
from; because the engine did not load; unknown."""

_NO_MESSAGE = "no message of an engine"
_CODE_S = 2.0  # time for the report of how a child ended, after its socket closed


class ChildGone(Exception):
    """The process had ended before it was sent anything."""


class Child:
    """A process that runs batches, one at a time.

    Attributes:
        pid: process id; 0 before it is known.
        answered: batches that it has answered.
        report: what the engine reported with its last answer; None for nothing.
        ended: is set when it is gone.
        was_killed: its parent has killed it.
        was_orphaned: it ended because the process that it was forked from did.
        code: exit code, or minus the signal; None while it lives, or if unknown.
    """

    def __init__(self, name: str, kill: Callable[[int], None]) -> None:
        """Creates what it will be reached by. `theirs` are the descriptors that it needs.

        Args:
            name: of the engine, in log lines.
            kill: kills a process id that may have ended already.
        """
        ours, self._other = socket.socketpair()
        ours.setblocking(False)
        self._socket = ours
        self._batch, self._rows = Area(), Area()
        self._output = LogRelay(f"engine {name}")
        self._kill = kill
        self._reader = FrameReader()
        self._ids = itertools.count(1)
        self._awaited: tuple[int, asyncio.Future[Message]] | None = None
        self._limit: tuple[float, asyncio.TimerHandle] | None = None
        self._parts: BatchParts | None = None
        self.report: Any = None
        self._loop = asyncio.get_running_loop()
        self.was_killed = self.was_orphaned = self._is_late = False
        self.pid = 0
        self.answered = 0
        self.ended = asyncio.Event()
        self.code: int | None = None
        self._loop.add_reader(ours.fileno(), self._read)

    @property
    def theirs(self) -> tuple[int, int, int, int]:
        """Descriptors: its end of the socket, the memory of batches, the memory of rows, where it prints."""
        return self._other.fileno(), self._batch.descriptor, self._rows.descriptor, self._output.descriptor

    def forked(self, pid: int) -> None:
        """It runs, with duplicates of its descriptors."""
        self.pid = pid
        self._other.close()
        self._output.started()

    @property
    def is_usable(self) -> bool:
        """Whether it takes a batch: it runs, and was not killed."""
        return not self.was_killed and self._socket.fileno() >= 0

    @property
    def how(self) -> str:
        """How it ended, in words."""
        if self.was_orphaned:
            return "the process that it was forked from"
        if self.code is None:
            return "no exit code"
        return signal.Signals(-self.code).name if self.code < 0 else f"exit code {self.code}"

    @property
    def reason(self) -> str:
        """Why it ended, one of `REASONS`."""
        if self.was_orphaned:
            return "spare"
        if self.was_killed:
            return "timeout" if self._is_late else "cancelled"
        if self.code is None:
            return "unknown"
        return "killed" if self.killed_by_others else "signal" if self.code < 0 else "exit"

    @property
    def killed_by_others(self) -> bool:
        """Whether it got a SIGKILL that its parent did not send: from a person, or for lack of memory."""
        return self.code == -signal.SIGKILL and not self.was_killed

    async def load(self, recipe: Recipe, memory_mb: int, limit_s: float) -> Message | None:
        """Loads and warms up. Returns the engine's facts, if it has any.

        Raises:
            EngineError: it does not load; one line.
        """
        order = {"load": recipe.target, "settings": dict(recipe.settings), "memory_mb": memory_mb}
        try:
            reply = await self._ask(order, limit_s)
        except (EngineFault, ChildGone) as fault:
            raise EngineError(f"{recipe.name}: while it was loaded, {fault}") from None
        try:
            if "error" in reply:
                raise EngineError(reply["text"] if reply["model"] else f"{recipe.name}: {failures.line_of(reply)}")
            facts: Message | None = reply["facts"]
        except (AttributeError, KeyError, TypeError):
            self.kill()
            raise EngineError(f"{recipe.name}: while it was loaded, it answered with {_NO_MESSAGE}") from None
        return facts

    async def run(self, batch: Sequence[Any], limit_s: float) -> list[Any]:
        """Runs a batch: one row per item, in the same order. Parts of responses are given to their items before.

        Raises:
            ModelRaised, EngineRaised: the engine raised.
            EngineDied: the process ended.
            EngineTimeout: it took longer than `limit_s`, for the rows or for the next part, and was killed.
            ChildGone: the batch did not reach it.
        """
        if self.ended.is_set():
            raise ChildGone
        self._parts = BatchParts(batch, self._tell_left)
        try:
            reply = await self._ask({"run": self._batch.write(batch)}, limit_s)
            if "error" in reply:
                raise failures.raised(reply)
            rows = self._rows.read(reply.get("rows", _NO_MESSAGE))
        except (BrokenBatch, frames.BrokenFrame) as broken:
            self.kill()
            raise EngineDied(f"the process of the engine answered with {broken}") from None
        finally:
            self._parts.close()
            self._parts = None
            self._close_areas()
        self.answered += 1
        self.report = reply.get("report")
        return rows

    def take_socket(self) -> socket.socket:
        """Gives away its socket, blocking: what was loaded serves there, and the caller speaks with it."""
        self._loop.remove_reader(self._socket.fileno())
        end = socket.socket(fileno=self._socket.detach())
        end.setblocking(True)
        return end

    async def _ask(self, message: Message, limit_s: float) -> Message:
        """Sends a message and waits for its reply, by its id. Raises EngineDied, EngineTimeout, ChildGone."""
        number = next(self._ids)
        reply: asyncio.Future[Message] = self._loop.create_future()
        self._awaited = number, reply
        self._await_until(limit_s, reply)
        try:
            if not await self._sent({"id": number, **message}):
                raise ChildGone
            return await reply
        except ChildGone:
            raise
        except EngineDied:
            await self._settled()
            raise EngineDied(f"the process of the engine ended with {self.how}") from None
        except BaseException:  # too late, or the caller has left: it is in the middle of something
            self.kill()
            raise
        finally:
            self._awaited = None
            if self._limit:
                self._limit[1].cancel()

    async def _sent(self, message: Message) -> bool:
        """Whether the whole message is on its way."""
        data = frames.packed(message)
        try:
            sent = self._send_some(data)
            if sent < len(data):
                await self._loop.sock_sendall(self._socket, data[sent:])
        except OSError:
            self._awaited = None
            self._hang_up()  # at once: it must not be taken for idle until the event loop hears of its end
            return False
        return True

    def _send_some(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def _settled(self) -> None:
        """Waits until it is known how it ended."""
        try:
            async with asyncio.timeout(_CODE_S):
                await self.ended.wait()
        except TimeoutError:
            self.gone(None)

    def _await_until(self, limit_s: float, reply: asyncio.Future[Message]) -> None:
        """The reply, or the next part before it, is to come within `limit_s`."""
        if self._limit:
            self._limit[1].cancel()
        self._limit = limit_s, self._loop.call_later(limit_s, self._too_late, reply, limit_s)

    def _tell_left(self, index: int) -> None:
        """Tells it that the client of an item of its batch has left; it may end its work on it."""
        if self._awaited is not None and self.is_usable:
            data = frames.packed({"id": self._awaited[0], "left": index})
            with contextlib.suppress(OSError):
                if self._send_some(data) not in (0, len(data)):
                    self.kill()

    def _too_late(self, reply: asyncio.Future[Message], limit_s: float) -> None:
        if not reply.done():
            self._is_late = True
            reply.set_exception(EngineTimeout(f"the engine took longer than {limit_s:g} s and was killed"))

    def _read(self) -> bool:
        """Takes what it has sent. Returns whether there was anything."""
        try:
            data = self._socket.recv(1 << 16)
            for message in self._reader.feed(data):
                self._take(message)
        except BlockingIOError:
            return False
        except OSError:  # it has ended without having read everything
            data = b""
        except frames.BrokenFrame:
            data = b""
            self.kill()
        if not data:
            self._hang_up()
        return bool(data)

    def _take(self, message: Message) -> None:
        if self._awaited is None or message.get("id") != self._awaited[0]:
            raise frames.BrokenFrame("a reply to no message")
        if "part" in message and self._parts and self._limit:
            self._await_until(self._limit[0], self._awaited[1])
            if message["part"] is not None:
                self._parts.take(message)
            return
        if not self._awaited[1].done():
            self._awaited[1].set_result(message)

    def _hang_up(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
        if self._awaited is not None and not self._awaited[1].done():
            self._awaited[1].set_exception(EngineDied())

    def gone(self, code: int | None) -> None:
        """It has ended, with an exit code if it is known."""
        if not self.ended.is_set():
            self.code = code
            self.ended.set()
            while self._socket.fileno() >= 0 and self._read():  # its last answer may not have been read
                pass
            self._hang_up()
            self._other.close()
            self._close_areas()
            self._output.close()

    def _close_areas(self) -> None:
        """Frees the shared memory, once it is gone and the rows of its last answer have been read."""
        if self.ended.is_set() and self._parts is None:
            self._batch.close()
            self._rows.close()

    def orphaned(self) -> None:
        """The process that it was forked from has ended, and it too."""
        self.was_orphaned = True
        self.gone(None)

    def leave(self) -> None:
        """Lets it end after what it is doing."""
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()

    def kill(self) -> None:
        """Ends it at once."""
        if not self.ended.is_set():
            self.was_killed = True
            self._kill(self.pid)
