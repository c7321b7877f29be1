"""`python -m runtime.processes.main SOCKET LIFELINE`: a spare process, from which children are forked.

It imports what engines need, and waits. It loads nothing and has one thread, so that a fork is safe.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import select
import signal
import socket
import sys
import warnings
from importlib import import_module
from typing import NoReturn

from models.machine.priority import give_way
from models.machine.process import prepare_process
from runtime.processes import frames
from runtime.processes.child_program import ChildProgram
from runtime.processes.lifeline import end_with
from runtime.processes.shared import Area


def main() -> NoReturn:
    """Imports, then forks a child at each order, until the other end of the socket is closed."""
    end, lifeline = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    give_way()
    prepare_process()
    logging.basicConfig(format="%(levelname)s:%(message)s", level=logging.INFO)
    first = frames.receive(end)
    for name in first[0]["import"] if first else ():
        with contextlib.suppress(ImportError):  # the engine that needs it says so
            import_module(name)
    gc.collect()
    gc.freeze()  # a collection in a child would touch, and so copy, all of it
    frames.send(end, {"ready": True})
    Spare(end, lifeline).run()


class Spare:
    """Obeys orders: fork, kill. Reports which children have ended, and how."""

    def __init__(self, end: socket.socket, lifeline: int) -> None:
        self._end = end
        self._lifeline = lifeline
        self._children: set[int] = set()
        self._woken, self._wakes = socket.socketpair()
        for each in (self._woken, self._wakes):
            each.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wakes.fileno(), warn_on_full_buffer=False)

    def run(self) -> NoReturn:
        """Serves until the other end is closed, then kills what is left."""
        while True:
            readable, _, _ = select.select([self._end, self._woken], [], [])
            if self._woken in readable:
                self._woken.recv(4096)
                self._reap()
            if self._end in readable and not self._obey():
                for pid in self._children:
                    self._kill(pid)
                os._exit(0)

    def _obey(self) -> bool:
        received = frames.receive(self._end)
        if received is None:
            return False
        order, descriptors = received
        if "fork" in order:
            frames.send(self._end, {"forked": order["fork"], "pid": self._fork(descriptors)})
        else:
            self._kill(order["kill"])
        return True

    def _fork(self, descriptors: list[int]) -> int:
        parent = os.getpid()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads: those of a library, which allows it
            pid = os.fork()
        if not pid:
            self._become_child(parent, descriptors)
        for each in descriptors:
            os.close(each)
        self._children.add(pid)
        return pid

    def _become_child(self, parent: int, descriptors: list[int]) -> NoReturn:
        code = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            for each in (self._end, self._woken, self._wakes):
                each.close()
            os.setsid()
            end_with(parent, self._lifeline)
            end, batch, rows, output = descriptors
            for stream in (1, 2):
                os.dup2(output, stream)
            os.close(output)
            ChildProgram(socket.socket(fileno=end), Area(batch), Area(rows)).run()
            code = 0
        except BaseException as error:
            logging.exception("the engine's process failed: %s: %s", type(error).__name__, error)
        finally:
            os._exit(code)

    def _kill(self, pid: int) -> None:
        """Kills a child, and what it has started. A child that was reaped may have given its id to another."""
        if pid in self._children:
            for kill in (os.killpg, os.kill):  # it has no group yet right after the fork
                with contextlib.suppress(ProcessLookupError):
                    kill(pid, signal.SIGKILL)

    def _reap(self) -> None:
        for pid in list(self._children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._children.discard(pid)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)  # what it has started
                frames.send(self._end, {"ended": pid, "code": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
