"""Handlers of model archives as engines. For a process of its own: loading one runs its code."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from models.bundles.spec import EngineSpec
from models.errors import EngineError
from models.handlers import emitting, names
from models.handlers.answers import UnsupportedType
from models.handlers.context import Context
from models.handlers.entry import Entry, load_entry
from models.handlers.envelope import in_envelope
from models.handlers.prediction_exception import PredictionException
from models.handlers.streaming import ClientLeft
from runtime.errors import HandlerFailed
from runtime.kinds.handler_parts import Parts, Row
from runtime.model import EngineFacts
from runtime.processes.channel import PartChannel

log = logging.getLogger(__name__)

KIND = "handler"
_PILLOWS_LIMIT = 1024 * 1024 * 1024 // 4 // 3  # pixels: Pillow's own default, which the server has switched off
_OF_THE_PROJECT = ("batching", "models", "runtime", "server", "snapserve")


class Request(NamedTuple):
    """One request of a batch.

    Attributes:
        fields: what the handler gets.
        headers: what it finds in its context.
        action: "predict", "explain" or "describe".
        id: of the request.
        is_streamed: parts of its response are sent at once.
    """

    fields: dict[str, Any]
    headers: dict[str, Any]
    action: str
    id: str
    is_streamed: bool


class HandlerEngine:
    """Calls a handler with each batch, and checks what it returns.

    Attributes:
        facts: of it.
    """

    def __init__(self, entry: Entry, context: Context, facts: EngineFacts) -> None:
        """Creates it.

        Args:
            entry: takes a list with a dict per request, and the context.
            context: of the handler.
            facts: of the engine.
        """
        self.facts = facts
        self._entry = entry
        self._context = context
        self._channel: PartChannel | None = None
        self._refusals = _refusals()
        emitting.emit_to(self._take_emitted)

    def connect(self, channel: PartChannel) -> None:
        """Parts of responses are sent through `channel`."""
        self._channel = channel

    def infer(self, batch: Sequence[Mapping[str, Any]]) -> list[Row]:
        """Runs a batch; requests of different actions are given to the handler apart from each other.

        Args:
            batch: what `HandlerModel.prepare` made of each request.

        Raises:
            HandlerFailed: the handler raised, or returned what cannot be sent.
        """
        requests = [_request(item) for item in batch]
        rows: list[Row] = [{}] * len(requests)
        by_action = sorted(range(len(requests)), key=lambda place: requests[place].action)
        for _, group in groupby(by_action, key=lambda place: requests[place].action):
            places = list(group)
            for place, row in zip(places, self._answer(places, [requests[each] for each in places]), strict=True):
                rows[place] = row
        return rows

    def report(self) -> list[dict[str, Any]] | None:
        """The metrics that the handler has added to; None for none."""
        return self._context.metrics.take() or None

    def _answer(self, places: Sequence[int], requests: Sequence[Request]) -> list[Row]:
        context = self._context
        context.begin([each.id for each in requests], [each.headers for each in requests])
        parts = Parts(context, self._channel, places, [each.is_streamed for each in requests])
        context.cl_socket = parts
        try:
            result = self._entry([each.fields for each in requests], context)
            rows = [parts.last(place, value) for place, value in enumerate(_checked(result, len(requests)))]
        except Exception as error:
            self._log(error, len(requests))
            context.metrics.take()
            raise self._failure(error) from error
        finally:
            context.cl_socket = None
        return rows

    def _failure(self, error: Exception) -> HandlerFailed:
        if isinstance(error, HandlerFailed):
            return error
        if isinstance(error, self._refusals):
            return HandlerFailed("refused", int(error.error_code), str(error.message))  # type: ignore[attr-defined]
        if isinstance(error, UnsupportedType):
            return HandlerFailed("type")
        if isinstance(error, MemoryError) or "CUDA" in str(error):
            return HandlerFailed("resources")
        return HandlerFailed("raised")

    def _log(self, error: Exception, size: int) -> None:
        """For the server's log: each line with its level. The items of a batch that fails are run again alone."""
        if isinstance(error, ClientLeft):
            log.info("the clients of a batch have left")
        elif size > 1:
            log.warning("the handler failed on a batch of %d: %s", size, _line(error))
        elif isinstance(error, (HandlerFailed, UnsupportedType, *self._refusals)):
            log.warning("the handler gave no answer: %s", _line(error))
        else:
            for line in "".join(traceback.format_exception(error)).splitlines():
                log.error("%s", line)

    def _take_emitted(self, metric: Any) -> None:
        store = self._context.metrics.store
        if not any(each is metric for each in store):
            store.append(metric)


def _request(item: Mapping[str, Any]) -> Request:
    """What shared memory holds of a request: bytes as bytearrays, all else as JSON in bytes."""
    head = json.loads(item["head"])
    fields = {
        name: value if isinstance(value, bytearray) else _parsed(value) for name, value in item["values"].items()
    }
    return Request(fields, **head)


def _parsed(value: bytes) -> Any:
    """What JSON says; bytes where it is broken."""
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return bytearray(value)


def _checked(result: Any, count: int) -> list[Any]:
    """What a handler returned for so many requests. Raises HandlerFailed."""
    if not isinstance(result, list):
        raise HandlerFailed("no-list")
    if len(result) != count:
        raise HandlerFailed("length")
    return result


def _refusals() -> tuple[type[Exception], ...]:
    """PredictionException, and that of an installed torchserve package."""
    installed = sys.modules.get("ts.utils.util")
    return tuple({PredictionException, getattr(installed, "PredictionException", PredictionException)})


def _line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def load_in_child(
    name: str,
    folder: str,
    handler: str,
    manifest: dict[str, Any],
    config: dict[str, Any],
    options: Mapping[str, Any],
    envelope: str = "",
    packages: str = "",
    variables: Mapping[str, str] = MappingProxyType({}),
    runs_code: bool = True,
) -> HandlerEngine:
    """What a recipe names. The process gets the folder for its working directory, and first on `sys.path`.

    Args:
        name: under which the model is served.
        folder: where its archive lies unpacked.
        handler: file, module, module:function or the name of a built-in one.
        manifest: of the archive.
        config: of the archive.
        options: `device`, `threads`, `batch_size`.
        envelope: of requests and answers; "" for none.
        packages: folder of packages for this model alone; "" for none.
        variables: of the environment, for the handler.
        runs_code: False: the handler is built in, and nothing is imported from the folder.

    Raises:
        EngineError: the handler does not load; one line that names the model.
    """
    names.provide()  # before an archive's own `ts` could be taken for it
    os.environ.update(variables)
    if runs_code:
        _enter(folder, packages)
    gpu = _gpu(options["device"], config)
    if options["threads"] and (torch := sys.modules.get("torch")):
        torch.set_num_threads(options["threads"])
    context = Context(name, folder, manifest, options["batch_size"], gpu, config)
    entry = _entry(name, handler, envelope, context)
    device = "cpu" if gpu is None else "cuda"
    spec = EngineSpec(
        KIND, handler, "", device=device, max_batch_size=options["batch_size"], threads=options["threads"]
    )
    return HandlerEngine(entry, context, EngineFacts(spec))


def _entry(name: str, handler: str, envelope: str, context: Context) -> Entry:
    """Imports the handler and prepares it. Raises EngineError; what its code raised is in the log."""
    try:
        return in_envelope(envelope, load_entry(handler, context))
    except EngineError as error:
        raise EngineError(f"{name}: {error}") from error
    except Exception as error:
        for line in traceback.format_exception(error):
            log.error("%s", line.rstrip())
        raise EngineError(f"{name}: its handler {handler} does not load: {_line(error)}") from error


def _enter(folder: str, packages: str) -> None:
    """Makes the archive's modules importable, also those whose names the project has."""
    own = [folder, *([packages] if packages else [])]
    sys.path[:] = [*own, *map(os.path.abspath, sys.path)]
    # For programs that the handler starts. Their own folder comes first then, as usual.
    os.environ["PYTHONPATH"] = os.pathsep.join([*own, *filter(None, [os.environ.get("PYTHONPATH")])])
    os.environ.pop("PYTHONSAFEPATH", None)
    sys.dont_write_bytecode = True  # nothing is written beside the archive's files
    os.chdir(folder)
    hidden = [name for name in _OF_THE_PROJECT if _has_module(Path(folder), name)]
    if hidden:
        names.import_all()  # while the names are still ours
    for module in [each for each in sys.modules if each.partition(".")[0] in hidden]:
        del sys.modules[module]
    if pillow := sys.modules.get("PIL.Image"):
        pillow.MAX_IMAGE_PIXELS = _PILLOWS_LIMIT  # type: ignore[attr-defined]


def _has_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").exists() or (folder / name).is_dir()


def _gpu(device: str, config: Mapping[str, Any]) -> int | None:
    """Number of the device that the handler is to use; None: the CPU."""
    torch = sys.modules.get("torch")
    if device == "cpu" or config.get("deviceType") == "cpu" or torch is None or not torch.cuda.is_available():
        return None
    return 0
