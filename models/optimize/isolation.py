"""An object in a process of its own: what it breaks, holds up or sets there stays there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import forkserver
from multiprocessing.managers import BaseManager
from pathlib import Path
from typing import Any, TypeVar

from models.errors import ModelError

Made = TypeVar("Made")

# What comes out of a call of a proxy: the model's own error, or the end of its process.
FAILURES = (ModelError, EOFError, OSError)


def _call(make: Callable[..., Made], *arguments: Any) -> Made:
    return make(*arguments)


# Forked not from this process, which has threads, but from one that has done nothing but import modules.
_METHOD = "forkserver"
_ROOT = Path(__file__).parents[2]


def prepare(*modules: str) -> None:
    """Starts the process that others are forked from; it imports `modules` meanwhile, which each then has at once.

    Without it, the first `isolated` starts one that imports nothing.
    """
    forkserver.set_forkserver_preload(list(modules))
    # It would look for them in the working directory first, and take whatever has such a name there.
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    with _environment(PYTHONPATH=path, PYTHONSAFEPATH="1"), _interrupts_blocked():
        forkserver.ensure_running()


@contextmanager
def _environment(**changes: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """What is started meanwhile is never interrupted: Ctrl-C is this process's business."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class _Manager(BaseManager):
    pass


_Manager.register("call", _call)


@contextmanager
def isolated(make: Callable[..., Made], *arguments: Any) -> Iterator[Made]:
    """Calls `make` in a new process and gives a proxy of what it returns; the process ends with the context.

    Methods of the proxy run there; arguments, results and exceptions are pickled. When the process dies
    EOFError or OSError comes out of the call.
    """

    manager = _Manager(ctx=multiprocessing.get_context(_METHOD))
    manager.start(_settle)
    try:
        yield manager.call(make, *arguments)  # type: ignore[attr-defined]
    finally:
        manager.shutdown()


@contextmanager
def time_limit(pid: int, seconds: float | None) -> Iterator[Callable[[], bool]]:
    """Kills a process that is still at work after `seconds`; None: no limit. This process is never killed.

    Yields:
        A function that tells whether the time was over.
    """
    over = threading.Event()
    if seconds is None or pid == os.getpid():
        yield over.is_set
        return

    def end() -> None:
        over.set()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield over.is_set
    finally:
        timer.cancel()


def reason_of(failure: BaseException) -> str:
    """One of `FAILURES` in one line."""
    if isinstance(failure, ModelError):
        return str(failure)
    return "its process died, which an illegal instruction or a lack of memory makes happen"


def _settle() -> None:
    """Discards what compilers print, and ends the process with its parent."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)
