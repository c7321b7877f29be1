"""Starts the processes of interpreters, for callers on any thread."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, TypeVar

from models.errors import EngineError
from runtime.interpreters.errors import InterpreterError
from runtime.processes.child import Child
from runtime.processes.recipe import Recipe
from runtime.processes.spare import Spare, SpareDied

T = TypeVar("T")

_LOAD_LIMIT_S = 600.0
_WORDS_S = 2.0  # time for the report of how a process ended, after its socket closed


class Process:
    """The process of an interpreter.

    Attributes:
        end: the socket to it, blocking.
        pid: process id.
        how: it ended, in words; empty while it runs.
    """

    def __init__(self, end: socket.socket, pid: int, kill: Callable[[], object]) -> None:
        """Creates it.

        Args:
            end: the socket to it, blocking.
            pid: process id.
            kill: ends it at once; may be called from any thread.
        """
        self.end = end
        self.pid = pid
        self.how = ""
        self.kill = kill
        self._ended = threading.Event()

    @property
    def is_running(self) -> bool:
        """Whether its end is not known yet. A call that was just sent may still find it dead."""
        return not self._ended.is_set() and not _has_something(self.end)

    def gone(self, how: str) -> None:
        """It has ended: ends the calls that wait for an answer."""
        self.how = how
        self._ended.set()
        with contextlib.suppress(OSError):
            self.end.shutdown(socket.SHUT_RDWR)

    def __del__(self) -> None:
        self.end.close()

    def last_words(self) -> str:
        """How it ended, as soon as that is known."""
        self._ended.wait(_WORDS_S)
        return self.how or "no exit code"


def _has_something(end: socket.socket) -> bool:
    """Whether the other end is closed, or has sent something unasked."""
    try:
        end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


class Host:
    """A spare process, from which interpreters are forked, on an event loop of its own."""

    def __init__(self, preload: Sequence[str]) -> None:
        """Starts the thread of the event loop.

        Args:
            preload: modules that the spare process imports beforehand.
        """
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="interpreters")
        self._thread.start()
        self._processes: set[Process] = set()
        self._watching: set[asyncio.Task[None]] = set()
        self._owner = os.getpid()
        self._closing = threading.Lock()
        self._closed = False
        self._spare = self._wait(_made(preload))

    def start(self, recipe: Recipe) -> Process:
        """Starts a process that serves what the recipe names. Raises InterpreterError."""
        if self._closed:
            raise InterpreterError("the manager is closed")
        try:
            return self._wait(self._start(recipe))
        except (EngineError, SpareDied) as error:
            raise InterpreterError(f"an interpreter does not start: {error}") from None

    def close(self) -> None:
        """Ends every process, also in the middle of a call. From any thread, any number of times."""
        if os.getpid() != self._owner:  # a fork of this process, without the event loop
            return
        if threading.current_thread() is self._thread:  # the garbage collection of the manager ran there
            threading.Thread(target=self.close).start()
            return
        with self._closing:
            if not self._closed:
                self._closed = True
                self._wait(self._close())
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._thread.join()
                self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    async def _start(self, recipe: Recipe) -> Process:
        child = await self._spare.fork("interpreters")
        try:
            await child.load(recipe, 0, _LOAD_LIMIT_S)
        except BaseException:
            child.leave()
            raise
        process = Process(child.take_socket(), child.pid, partial(self._kill, child))
        self._processes.add(process)
        watching = self._loop.create_task(self._watch(child, process))
        self._watching.add(watching)
        watching.add_done_callback(self._watching.discard)
        return process

    def _kill(self, child: Child) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is closed, and the process gone with it
            self._loop.call_soon_threadsafe(child.kill)

    async def _watch(self, child: Child, process: Process) -> None:
        await child.ended.wait()
        process.gone("the manager was closed" if self._closed else child.how)
        self._processes.discard(process)

    async def _close(self) -> None:
        await self._spare.close()
        await asyncio.gather(*self._watching)


async def _made(preload: Sequence[str]) -> Spare:
    return Spare(preload)
