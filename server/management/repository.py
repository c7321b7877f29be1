"""The model repository of the Open Inference Protocol: load and unload by name alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from models.bundles.text import read_json
from models.errors import BundleError
from runtime.added_model import ARCHIVE, IMAGE, TENSOR, AddedModel
from runtime.archive_settings import ArchiveWishes
from runtime.errors import ModelRefused, UnknownModel
from runtime.folder import StoreFolder
from runtime.model_set import ModelSet
from server.http.faults import BadRequest, Fault, NoModelStore
from server.management.changer import Changer
from server.management.orders import as_it_says, read_addition
from server.model_options import NO_STORE

PREFIX = "/v2/repository"
_VERSION = "1"  # of what is loaded by its name alone
_SUFFIXES = {".mar": ARCHIVE, ".pt": TENSOR, ".pt2": TENSOR}


class Repository:
    """Handles its requests."""

    def __init__(
        self, changes: Changer, folder: StoreFolder | None, read: Callable[[web.Request], Awaitable[bytes]]
    ) -> None:
        """Creates it.

        Args:
            changes: of all workers.
            folder: where models are found; None: nowhere.
            read: the body of a request.
        """
        self._changes = changes
        self._folder = folder
        self._read = read

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Routes to it, with and without a slash at the end."""
        for end in ("", "/"):
            router.add_post(f"{PREFIX}/index{end}", self._index)
            router.add_post(f"{PREFIX}/models/{{name}}/load{end}", self._load)
            router.add_post(f"{PREFIX}/models/{{name}}/unload{end}", self._unload)

    async def _index(self, request: web.Request) -> web.Response:
        models = self._changes.committed
        return web.json_response([_entry(models, *key) for key in models])

    async def _load(self, request: web.Request) -> web.Response:
        """Adds what is not there yet."""
        _check_body(await self._read(request))
        name = request.match_info["name"]
        if not self._changes.committed.versions(name):
            if self._folder is None:
                raise NoModelStore(NO_STORE)
            model = await asyncio.to_thread(model_of, name, self._folder)
            await self._changes.change(lambda now: now if now.versions(name) else now.with_model(model))
        return web.json_response({})

    async def _unload(self, request: web.Request) -> web.Response:
        _check_body(await self._read(request))
        name = request.match_info["name"]
        await self._changes.change(lambda models: _without(models, name))
        return web.json_response({})


def error_response(fault: Fault) -> web.Response:
    """`{"error": text}`, with the hint for a missing token."""
    text = f"{fault.detail} {fault.extras.get('hint', '')}" if fault.status == 401 else fault.detail
    return web.json_response({"error": text or fault.title}, status=fault.status, headers=fault.headers)


def model_of(name: str, folder: StoreFolder) -> AddedModel:
    """The model of that name in a store: a bundle NAME, an archive NAME.mar, or a program NAME.pt or NAME.pt2.

    A TorchScript file is an image classifier if the settings beside it have labels.

    Raises:
        UnknownModel: there is none.
        BadRequest: it is no name of a model.
        ModelRefused: its archive, or its settings, are damaged.
    """
    for suffix in ("", *_SUFFIXES):
        try:
            path = folder.resolve(f"{name}{suffix}")
        except UnknownModel:
            continue
        if path.is_dir() == (not suffix):
            kind = _SUFFIXES.get(suffix, IMAGE)
            return _added(name, f"{name}{suffix}", kind, folder)
    raise UnknownModel(f"The model store has no {name[:80]!r}.")


def _added(name: str, path: str, kind: str, folder: StoreFolder) -> AddedModel:
    if kind == TENSOR and _has_labels(path, folder):
        kind = IMAGE
    body = json.dumps({"path": path, "kind": kind}).encode()
    model = read_addition(body, name, _VERSION).model
    return as_it_says(model, ArchiveWishes(), folder) if kind == ARCHIVE else model


def _has_labels(path: str, folder: StoreFolder) -> bool:
    beside = folder.resolve(path).with_suffix(".json")
    try:
        return beside.is_file() and "labels" in read_json(folder.inside(beside), "settings file")
    except (BundleError, TypeError) as error:
        raise ModelRefused(str(error)) from None


def _without(models: ModelSet, name: str) -> ModelSet:
    """Without all versions, the default one last. Raises UnknownModel, LastModel."""
    default = models.default_of(name)
    for version in models.versions(name):
        if version != default:
            models = models.without(name, version)
    return models.without(name, default)


def _entry(models: ModelSet, name: str, version: str) -> dict[str, str]:
    added = models.find(name, version)
    state = "UNAVAILABLE" if added and added.is_idle else "READY"
    return {"name": name, "version": version, "state": state}


def _check_body(body: bytes) -> None:
    """Raises BadRequest: it is no JSON object, or has a configuration or files."""
    try:
        document: Any = json.loads(body or b"{}")
        asked = document.get("parameters", {}).keys()
    except (ValueError, AttributeError, RecursionError):
        raise BadRequest("the body must be a JSON object") from None
    if asked - {"unload_dependents"}:
        raise BadRequest("a model is loaded as it lies in the store, without a configuration or files")
