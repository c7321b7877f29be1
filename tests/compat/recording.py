"""What was recorded from TorchServe: requests to send again, and answers reduced to what must be the same.

The recording is no part of the project: it lies in the folder that SNAPSERVE_SHARED names, or in ../shared.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.compat.store import as_base64, picture
from tests.compat.wire import Request
from tests.conftest import ROOT

_GROUPED = re.compile(r"(.+) \[(\d+)\]$")
_PHOTO = ROOT / "images" / "cat.jpg"
_SAME_TENSOR = [[0.0] * 28] * 28


def shared(*parts: str) -> Path:
    """A file or folder of recorded material; it may be missing."""
    return Path(os.environ.get("SNAPSERVE_SHARED", ROOT.parent / "shared")).joinpath("compat", *parts)


RECORDING = shared("torchserve-exchanges.jsonl")


@dataclass(frozen=True)
class Exchange:
    """One recorded request and its answer.

    Attributes:
        name: unique; of several in a recording that have the same, the later ones end in `#2`, `#3`.
        api: inference, management or metrics.
        is_tls: whether it was sent encrypted.
        request: to send.
        words: what the recording says of its body.
        recorded: the answer as it stands in the recording.
        group: those with the same, and only they, were sent at once.
        order: within the group.
    """

    name: str
    api: str
    is_tls: bool
    request: Request
    words: Any
    recorded: Mapping[str, Any]
    group: str
    order: int


def exchanges() -> list[Exchange]:
    """All, in the recording's order; those that were sent at once in the order of sending."""
    seen: Counter[str] = Counter()
    found = [_exchange(json.loads(line), seen) for line in RECORDING.read_text().strip().split("\n")]
    first: dict[str, int] = {}
    for index, each in enumerate(found):
        first.setdefault(each.group, index)
    return sorted(found, key=lambda each: (first[each.group], each.order))


def _exchange(line: dict[str, Any], seen: Counter[str]) -> Exchange:
    name = line["name"]
    seen[name] += 1
    if seen[name] > 1:
        name += f" #{seen[name]}"
    grouped = _GROUPED.match(name)
    group, order = (grouped[1], int(grouped[2])) if grouped else (name, 0)
    request = line["request"]
    api, _, tls = request["api"].partition(" ")
    is_tls = bool(tls) and not name.startswith("plain")
    sent = _request(name, request)
    return Exchange(name, api, is_tls, sent, request["body"], line["response"], group, order)


def _request(name: str, recorded: dict[str, Any]) -> Request:
    if "raw" in recorded:
        return Request(raw=recorded["raw"].replace("\\r\\n", "\r\n").encode())
    port = {"inference": 8080, "management": 8081, "metrics": 8082}[recorded["api"].split()[0]]
    headers = {"Host": f"127.0.0.1:{port}", **recorded["headers"]}
    version = headers.pop("version", "HTTP/1.1")
    if "Transfer-Encoding" in headers or "Content-Length" not in headers:
        headers.pop("Content-Length", None)
    withheld = "Expect" in headers
    body = b"" if withheld else rebuilt(name, recorded["body"])
    return Request(recorded["method"], recorded["path"], headers, body, version, is_body_withheld=withheld)


def rebuilt(name: str, words: Any) -> bytes:
    """A request's body from the words that describe it, or as it was recorded."""
    if isinstance(words, dict):
        return bytes.fromhex(words["hex"])
    for key in (name, words):
        if key in _BODIES:
            return _BODIES[key]()
    if size := re.fullmatch(r"(\d+) bytes", words):
        return _of_size(int(size[1]), name)
    if image := re.fullmatch(r"a (\w+) (PNG|JPEG|WEBP|BMP)", words):
        return picture(image[1], image[2])
    data: bytes = words.encode()
    return data


def is_rebuilt(name: str, words: Any) -> bool:
    """Whether a body is ours, so that its length differs from that of the recorded one."""
    return isinstance(words, str) and rebuilt(name, words) != words.encode()


def _of_size(size: int, name: str) -> bytes:
    form = _part("data", b"x" * (size - 200), 'filename="f.bin"').replace(b"XBOUNDX", b"B")
    return form + b"--B--\r\n" if name.startswith("multipart") else b"x" * size


def _part(name: str, data: bytes, more: str = "", content_type: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f"; {more}" if more else "")
    lines = ["--XBOUNDX", disposition, *([f"Content-Type: {content_type}"] if content_type else []), "", ""]
    return "\r\n".join(lines).encode() + data + b"\r\n"


def _form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--XBOUNDX--\r\n"


def _file(name: str, data: bytes, content_type: str = "application/octet-stream") -> bytes:
    return _part(name, data, 'filename="f.bin"', content_type)


def _photo() -> bytes:
    return _PHOTO.read_bytes()


def _digit() -> bytes:
    return picture("L", "PNG", (28, 28))


def _instances(count: int = 1) -> bytes:
    return json.dumps({"instances": [{"data": as_base64(_digit()), "target": 0}] * count}).encode()


def _infer(*, is_bytes: bool = False, has_id: bool = True) -> bytes:
    identity = {"id": "d3b15cad-50a2-4eaf-80ce-8b0a428bd298"} if has_id else {}
    tensor = {"name": "input-0", "shape": [1, 28, 28], "datatype": "FP32", "data": [_SAME_TENSOR]}
    name = "312a4eb0-0ca7-4803-a101-a6d2c18486fe"
    encoded = {"name": name, "shape": [1], "datatype": "BYTES", "data": [as_base64(_digit())]}
    return json.dumps({**identity, "inputs": [encoded if is_bytes else tensor]}).encode()


_BODIES: dict[str, Callable[[], bytes]] = {  # by the words, or by the exchange's name where the words are "same"
    "a JPEG": _photo,
    "a 28x28 PNG": _digit,
    "not a picture": lambda: b"not a picture",
    "the first 20000 bytes of a JPEG": lambda: _photo()[:20000],
    "base64 of a JPEG": lambda: as_base64(_photo()).encode(),
    '{"data": base64 of a JPEG}': lambda: json.dumps({"data": as_base64(_photo())}).encode(),
    "a JSON string, base64 of a JPEG": lambda: json.dumps(as_base64(_photo())).encode(),
    "[3][224][224] numbers 0.1": lambda: json.dumps([[[0.1] * 224] * 224] * 3).encode(),
    "echo multipart": lambda: _form(
        _file("data", b"\x01\x02\x03"), _part("note", b"hello"), _file("j", b'{"k":1}', "application/json")
    ),
    "echo multipart other name, no part type": lambda: _form(_part("other", b"\x01\x02", 'filename="f.bin"')),
    "multipart: data = a JPEG": lambda: _form(_file("data", _photo())),
    "multipart: body = a JPEG": lambda: _form(_file("body", _photo())),
    "multipart: image = a JPEG": lambda: _form(_file("image", _photo())),
    "multipart: two pictures named data": lambda: _form(_file("data", _photo()), _file("data", picture())),
    "multipart: data = a PNG, target = 3": lambda: _form(_file("data", _digit()), _part("target", b"3")),
    '{"instances":[{"data": base64 PNG, "target": 0}]}': _instances,
    "two instances": lambda: _instances(2),
    **{
        f"kserve v1: {name}": _instances
        for name in ("predict without content type", "explain", "predictions path", "other verb")
    },
    "id, inputs[input-0 FP32 [1,28,28]]": _infer,
    "as infer tensor": _infer,
    "id, inputs[BYTES [1], data [base64 PNG]]": lambda: _infer(is_bytes=True),
    "same without id": lambda: _infer(is_bytes=True, has_id=False),
}


def settings_of(found: list[Exchange]) -> dict[str, list[Exchange]]:
    """The exchanges of each server that was recorded: settings' name -> its exchanges, in order."""
    starts = list(_starts(found))
    ends = [start for _, start in starts[1:]] + [len(found)]
    return {name: found[start:end] for (name, start), end in zip(starts, ends, strict=True)}


def _starts(found: list[Exchange]) -> Iterator[tuple[str, int]]:
    names = [each.name for each in found]
    for setting, name in _FIRST.items():
        yield setting, names.index(name)


_FIRST = {  # settings -> the first exchange of its server
    "plain": "ping empty",
    "models": "register sync 1 worker",
    "tokens": "management list, token: none",
    "kserve": "kserve v1: reg mnist",
    "kservev2": "kserve v2: reg mnist",
    "json": "json envelope: reg",
    "oip": "oip: server",
    "model API off": "model api off: register",
    "two models": "two startup models: invocations",
    "log": "metrics in log mode",
    "one port": "one port: ping",
    "limits": "max_request_size 1000: reg",
    "tls": "tls: ping",
    "snapshot": "snap: reg",
    "restored": "snapshot restored: list",
    "heads": "HEAD ping",
    "expiry": "before expiry",
}
