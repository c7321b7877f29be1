"""Between a request for a handler and what its process takes and gives: on the server's side."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from models.archives.archive import Archive
from models.engines.base import EngineOptions
from runtime.inputs import Fields, JsonText
from runtime.kinds.handler_parts import Row
from runtime.outputs import Reply
from runtime.processes.parts import StreamedItem
from runtime.processes.trees import BYTES_LIKE

# Variables of TorchServe's own: it has no Intel extension for PyTorch here.
_OFF = {"TS_IPEX_ENABLE": "false", "TS_IPEX_GPU_ENABLE": "false"}


class Front(NamedTuple):
    """What stands between clients and a handler.

    Attributes:
        envelope: of requests and answers: "json", "body", "kserve", "kservev2" or "".
        decodes: whether JSON and text reach the handler as values, not as bytes.
    """

    envelope: str = ""
    decodes: bool = True


DEFAULT = Front()


def item_of(given: Fields) -> StreamedItem:
    """Fields -> an item: bytes as they are, all else as JSON."""
    values = {name: _shared(value) for name, value in given.values.items()}
    told = {} if given.action == "predict" else {given.action: "True"}  # where the dialect has not said so
    head = {
        "headers": {**given.headers, **told},
        "action": given.action,
        "id": given.request_id,
        "is_streamed": given.on_part is not None,
    }
    form = {"values": values, "head": json.dumps(head).encode("ascii")}
    return StreamedItem(form, [given.action, values], given.on_part)


def _shared(value: Any) -> memoryview | bytes:
    """A field as it is shared: bytes without a copy, all else as JSON in bytes."""
    if isinstance(value, JsonText):
        return bytes(value.data)
    return memoryview(value) if isinstance(value, BYTES_LIKE) else json.dumps(value).encode("ascii")


def reply_of(row: Row) -> Reply:
    """What a handler has answered."""
    headers = tuple([(name, value) for name, value in row["headers"]])
    return Reply(row["body"], row["content_type"], row["status"], row["reason"], headers)


def settings_of(
    name: str, archive: Archive, handler: str, options: EngineOptions, batch_size: int, front: Front = DEFAULT
) -> dict[str, Any]:
    """What `handler_engine.load_in_child` is called with.

    Args:
        name: under which the model is served.
        archive: that the handler is in.
        handler: file, module, module:function or the name of a built-in one.
        options: of the engine.
        batch_size: most requests of a batch.
        front: what stands before the handler.
    """
    return {
        "name": name,
        "folder": str(archive.folder.absolute()),
        "handler": handler,
        "manifest": dict(archive.manifest.document),
        "config": dict(archive.config),
        "options": {
            "device": options.device,
            "threads": options.intra_op_threads,
            "batch_size": batch_size,
        },
        "envelope": front.envelope,
        "variables": {"TS_DECODE_INPUT_REQUEST": str(front.decodes).lower(), **_OFF},
        "packages": str(archive.packages.absolute()) if archive.packages else "",
    }
