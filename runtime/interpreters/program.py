"""The program of an interpreter: evaluates what the manager sends, and keeps the objects. Runs in a child."""

from __future__ import annotations

import contextlib
import itertools
import linecache
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.package.package_importer import PackageImporter

from runtime.interpreters import channel
from runtime.interpreters.errors import InterpreterError
from runtime.interpreters.evaluation import Evaluation
from runtime.interpreters.library import News, stamp_of
from runtime.interpreters.module_sources import ModuleSources
from runtime.interpreters.moving import pickled, unpickled
from runtime.interpreters.storages import Inbox, Outbox
from runtime.interpreters.values import Packer, Unpacker
from runtime.processes.frames import Message

_LONGEST_TEXT = 20_000  # characters of an error, and of its traceback
_HERE = Path(__file__).parent
_STANDARD = (1, 2)  # descriptors: output, error


class Program:
    """One interpreter. What a `Recipe` names; `serve` then has the process to itself."""

    def __init__(self, number: int, threads: int, paths: Sequence[str]) -> None:
        """Prepares the process.

        Args:
            number: of the interpreter; `torch.version.interp`.
            threads: of torch, for one operation; 0: as many as torch takes.
            paths: appended to `sys.path`.
        """
        # torch's loader of packages uses it, and warns of it.
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        torch.version.interp = number  # type: ignore[attr-defined]
        if threads:
            torch.set_num_threads(threads)
        sys.path += paths
        self._sources = ModuleSources()
        sys.meta_path.append(self._sources)
        self._objects: dict[int, Any] = {}
        self._replicas: dict[int, Any] = {}
        self._packages: dict[int, tuple[str, list[int]]] = {}
        self._importers: dict[int, PackageImporter] = {}
        self._numbers = itertools.count(1)
        self._pid = os.getpid()
        self._done: dict[str, Callable[[Message, Inbox, Outbox], Message]] = {
            "load": self._load,
            "evaluate": self._evaluate,
        }

    def serve(self, end: socket.socket) -> None:
        """Answers until the manager closes its end."""
        os.register_at_fork(after_in_child=end.close)  # lest the end of this process goes unnoticed
        while (received := channel.receive(end)) is not None:
            message, descriptors = received
            if message["do"] == "output":
                _take_output(descriptors)
            else:
                self._answer(end, message, Inbox(message["extents"], descriptors))

    def _answer(self, end: socket.socket, message: Message, inbox: Inbox) -> None:
        outbox = Outbox(in_place=message.get("give") != "copy")
        reply, descriptors = self._reply(message, inbox, outbox)
        if os.getpid() != self._pid:  # the call has forked: this is the other process, which came back, too
            os._exit(0)
        if message["do"] != "forget":
            channel.send(end, reply, descriptors)
        outbox.close()

    def _reply(self, message: Message, inbox: Inbox, outbox: Outbox) -> tuple[Message, Sequence[int]]:
        try:
            self._take_news(message)
            if message["do"] == "forget":
                return {}, ()
            reply = self._done[message["do"]](message, inbox, outbox)
            outbox.finish()
            return {**reply, "extents": outbox.extents}, outbox.descriptors
        except BaseException as error:  # an exit, too, concerns this call alone
            return _told(error), ()
        finally:
            inbox.close()
            _flush()

    def _take_news(self, message: Message) -> None:
        for number in message["objects"]:
            self._objects.pop(number, None)
        for number in message["replicas"]:
            self._replicas.pop(number, None)
        self._read(message["news"])

    def _read(self, news: News) -> None:
        for kind, name, *rest in news:
            if kind == "source":
                self._sources.add(name, *rest)
            elif kind == "package":
                self._packages[name] = rest[0], rest[1]
            else:
                self._forget_package(name)

    def _forget_package(self, number: int) -> None:
        self._packages.pop(number, None)
        importer = self._importers.pop(number, None)
        if importer is not None:  # the lines of its sources would keep it
            for name in [each for each in linecache.cache if each.startswith(importer.id())]:
                del linecache.cache[name]

    def _load(self, message: Message, inbox: Inbox, outbox: Outbox) -> Message:
        self._replicas[message["replica"]] = unpickled(message["pickle"], inbox, self._importer)
        return {}

    def _evaluate(self, message: Message, inbox: Inbox, outbox: Outbox) -> Message:
        result = Evaluation(Unpacker(inbox, self._resolve)).of(message["expression"])
        if message["give"] == "object":
            number = next(self._numbers)
            self._objects[number] = result
            return {"object": number}
        if message["give"] == "value":
            return {"value": Packer(outbox).pack(result)}
        pickle, packages = pickled(result, outbox, self._importers)
        return {"pickle": pickle, "packages": packages}

    def _resolve(self, kind: str, number: int) -> Any:
        if kind == "importer":
            return self._importer(number)
        return (self._objects if kind == "object" else self._replicas)[number]

    def _importer(self, number: int) -> PackageImporter:
        """Opens a package when it is first needed."""
        if number not in self._importers:
            file, stamp = self._packages[number]
            if stamp_of(file) != stamp:
                raise InterpreterError(f"{file} has changed since it was opened")
            self._importers[number] = PackageImporter(file)
        return self._importers[number]


def _take_output(descriptors: Sequence[int]) -> None:
    """Takes the manager's standard output and error for its own."""
    for standard, given in zip(_STANDARD, descriptors, strict=False):
        os.dup2(given, standard)
        os.close(given)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()


def _told(error: BaseException) -> Message:
    place = error.__traceback__
    while place is not None and Path(place.tb_frame.f_code.co_filename).parent == _HERE:
        place = place.tb_next
    try:
        text, trace = str(error), "".join(traceback.format_exception(type(error), error, place))
    except Exception:
        text = trace = "its text cannot be had"
    kind = "" if isinstance(error, InterpreterError) else type(error).__name__
    return {"error": kind, "text": text[:_LONGEST_TEXT], "trace": trace[-_LONGEST_TEXT:]}
