"""Answers reduced to what has to be the same: volatile values are masked, and what is random is not compared."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from tests.compat.recording import Exchange, is_rebuilt
from tests.compat.wire import Answer

_CUT = re.compile(r"\.\.\.\((?:cut; )?\d+ characters in all\)$", re.DOTALL)
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE]-?\d+)?")
_SAMPLE = re.compile(r"(\w+)(?:\{(.*)\})? \S+")
_LOADING = (  # workers are starting then, or may be
    "describe at once",
    "describe after oversize",
    "describe 2",
    "describe min1 max3",
    "describe badh after failed scale",
    "snapshot restored: probe",
    "model api off: describe",
    "two startup models: describe",
    "default workers",
)
_MASKED = {  # keys whose values differ each time -> what stands for them
    "pid": "a process",
    "startTime": "a time",
    "memoryUsage": "bytes",
    "createdOn": "a time",
    "model_dir": "a folder",
    "request_id_len": "characters",
}
_VOLATILE = re.compile(r'"(id|startTime|memoryUsage|pid)": (?:"[^"]*"|\d+)')
_COMPARED_HEADERS = ("content-type", "x-a", "access-control-allow-origin", "access-control-allow-methods")


def recorded(exchange: Exchange) -> dict[str, Any]:
    """The recorded answer, reduced."""
    response = exchange.recorded
    status = response.get("status") or _status_of(response.get("status_line"))
    headers = {name.lower(): value for name, value in response.get("headers", {}).items()}
    body = response.get("body")
    text = bytes.fromhex(body["hex"]).decode("latin-1") if isinstance(body, dict) else body
    return _reduced(exchange, status, headers, text)


def answered(exchange: Exchange, answer: Answer, replaced: Mapping[str, str]) -> dict[str, Any]:
    """Our answer, reduced.

    Args:
        exchange: what was asked.
        answer: ours.
        replaced: text of ours -> what the recorder wrote for it, in bodies.
    """
    text = None if answer.status is None else _text(answer.body)
    for ours, theirs in replaced.items():
        text = text and text.replace(ours, theirs)
    return _reduced(exchange, answer.status, answer.headers, text)


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError:
        return body.decode("latin-1")


def _status_of(line: str | None) -> int | None:
    return int(line.split()[1]) if line else None


def _reduced(
    exchange: Exchange, status: int | None, headers: Mapping[str, str], text: str | None
) -> dict[str, Any]:
    if status is None:
        return {"status": None}
    shown = {name: headers[name] for name in _COMPARED_HEADERS if name in headers}
    if not exchange.recorded.get("headers"):  # the recorder left them out
        shown = {}
    return {"status": status, **shown, **_body(exchange, text or "", headers.get("content-type", ""))}


def _body(exchange: Exchange, text: str, content_type: str) -> dict[str, Any]:
    if content_type.startswith("text/plain; version"):
        return {"metrics": _metrics(exchange, text)}
    if text.startswith("PK\x03\x04"):
        return {"body": "torch.save"}
    if exchange.name in _RANDOM and not text.lstrip().startswith('{\n  "code"'):
        return {"shape": _shape(exchange, text)}
    if '"openapi"' in text[:20]:
        theirs = _about(str(exchange.recorded["body"]))
        return {"description": {key: value for key, value in _about(text).items() if key in theirs}}
    if cut := _CUT.search(str(exchange.recorded.get("body"))):
        length = len(_steady(exchange.recorded["body"][: cut.start()]))
        return {"start": _steady(text)[:length]}
    try:
        value = json.loads(text)
    except ValueError:
        return {"body": text}
    return {"body": _masked(exchange, value), "layout": _layout(text, value)}


def _about(text: str) -> dict[str, str]:
    """What an OpenAPI document says of itself, as far as the recorder kept it."""
    return dict(re.findall(r'"(openapi|title|version)": "([^"]*)"', text[:400]))


def _steady(text: str) -> str:
    """JSON that was cut off, in one line, without the values that differ each time."""
    return _VOLATILE.sub(r'"\1": "..."', _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text)


def _layout(text: str, value: Any) -> str:
    body = text.rstrip("\n")
    end = ", newline" if body != text else ""
    written = {json.dumps(value, indent=2): "indented", json.dumps(value): "one line"}
    return written.get(body, "other") + end


def _masked(exchange: Exchange, value: Any, key: str = "") -> Any:
    if key == "attrs":
        return [name for name in value if f'"{name}"' in str(exchange.recorded["body"]) and name[0] != "_"]
    if isinstance(value, list):
        return [_masked(exchange, each, key) for each in value]
    if isinstance(value, dict):
        if key == "headers":  # in any order
            return {name: _header(exchange, name, value[name]) for name in sorted(value)}
        return [[name, _masked(exchange, each, name)] for name, each in value.items()]
    if key == "id" and str(value).isdigit():
        return "a worker"
    if key == "status" and exchange.name in _LOADING:
        return "READY or UNLOADING"
    if key == "index" and exchange.group != exchange.name:
        return "place in the batch"
    if exchange.group != exchange.name and isinstance(value, str):
        return re.sub(r"^item \d", "item N", value)
    if key == "id" and exchange.name == "kserve v2: no id":
        return "<uuid>"
    return _MASKED.get(key, value)


def _header(exchange: Exchange, name: str, value: Any) -> Any:
    if name == "Content-Length" and is_rebuilt(exchange.name, exchange.words):
        return "a length"
    return value


def _metrics(exchange: Exchange, text: str) -> dict[str, Any]:
    """Name -> help, type and the labels of its samples, for the names that were recorded."""
    kept = str(exchange.recorded["body"])
    theirs, ours = _families(_CUT.sub("", kept)), _families(text)
    if _CUT.search(kept) and not theirs[last := list(theirs)[-1]]["labels"]:
        del theirs[last]  # it is not whole
    is_filtered = "name[]" in exchange.request.path
    others = {"others": bool(set(ours) - set(theirs))} if is_filtered or not theirs else {}
    return {**{name: _as_far_as(ours.get(name), family) for name, family in theirs.items()}, **others}


def _as_far_as(ours: dict[str, Any] | None, theirs: dict[str, Any]) -> dict[str, Any] | None:
    """A family; without its samples where none were recorded."""
    return ours if ours is None or theirs["labels"] else {**ours, "labels": []}


def _families(text: str) -> dict[str, Any]:
    found: dict[str, dict[str, Any]] = {}
    for line in text.splitlines():
        if line.startswith("# "):
            _, kind, name, rest = (line + " ").split(" ", 3)
            found.setdefault(name, {"labels": set()})[kind] = rest.strip()
        elif sample := _SAMPLE.fullmatch(line):
            labels = re.sub(r'"[^"]*"', "", sample[2] or "")
            found.setdefault(sample[1], {"labels": set()})["labels"].add(labels)
    return {name: {**family, "labels": sorted(family["labels"])} for name, family in found.items()}


def _shape(exchange: Exchange, text: str) -> Any:
    """What a random network answered, without its numbers."""
    if exchange.name in _EXPLAINED:
        return _NUMBER.sub("#", _one_line(text))[:40]
    try:
        value = json.loads(text)
    except ValueError:
        return text
    layout = _layout(text, value)
    if isinstance(value, dict) and all(isinstance(each, float) for each in value.values()):
        is_sorted = list(value.values()) == sorted(value.values(), reverse=True)
        return {"labels": [_NUMBER.sub("#", label) for label in value], "sorted": is_sorted, "layout": layout}
    return {"value": _numberless(_masked(exchange, value)), "layout": layout}


def _numberless(value: Any) -> Any:
    if isinstance(value, list):
        return [_numberless(each) for each in value]
    return "#" if isinstance(value, int | float) else value


_EXPLAINED = (
    "mnist explanations",
    "mnist explanations, target as form field",
    "kserve v1: explain",
    "kserve v2: explain",
)
_RANDOM = (  # answers of networks with random weights
    *_EXPLAINED,
    "jpeg raw POST octet",
    "jpeg raw PUT (curl -T)",
    "jpeg image/jpeg",
    "jpeg multipart data",
    "jpeg multipart body",
    "two files named data",
    "base64 text",
    "base64 json string",
    "json list tensor",
    "form urlencoded (curl --data-binary default)",
    *(f"picture {kind}" for kind in ("L PNG", "RGBA PNG", "P PNG", "CMYK JPEG", "1 PNG", "RGB WEBP", "RGB BMP")),
    "mnist",
    "kserve v1: predict",
    "kserve v1: predict without content type",
    "kserve v1: two instances",
    "kserve v1: predictions path",
    "kserve v2: infer tensor",
    "kserve v2: infer bytes",
    "kserve v2: no id",
)
