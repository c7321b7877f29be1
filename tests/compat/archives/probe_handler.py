"""A handler that does what the request's text says; without a known command it describes its input."""

import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from ts.handler_utils.utils import send_intermediate_predict_response
from ts.utils.util import PredictionException

_HEAD = 40  # bytes of a field that are shown


def handle(data, context):
    if data is None:  # the call at the start
        return None
    answers = [_answer(index, row, len(data), context) for index, row in enumerate(data)]
    for row in data:
        whole = _WHOLE.get(_command(row)[0])
        if whole:
            return whole(answers)
    return answers


_WHOLE = {  # commands about the list of the batch's answers
    "short": lambda answers: answers[:-1],
    "long": lambda answers: [*answers, "one more"],
    "notlist": lambda answers: "no list",
    "nonelist": lambda answers: None,
}
_VALUES = {
    "str": lambda: "plain text é",
    "empty": lambda: "",
    "bytes": lambda: b"\x00\x01raw",
    "bytearray": lambda: bytearray(b"raw bytes"),
    "int": lambda: 7,
    "float": lambda: 0.1,
    "bool": lambda: True,
    "none": lambda: None,
    "list": lambda: [1, 2.5, "x", None],
    "dict": lambda: {"b": 1, "a": {"c": [1, 2]}, "é": "é"},
    "tuple": lambda: (1, 2),
    "tensor": lambda: torch.tensor([1, 2, 3]),
    "numpy": lambda: np.zeros(3),
    "npfloat": lambda: {"value": np.float32(1)},
    "set": lambda: {1, 2},
    "unserialisable": lambda: object(),
}


def _command(row):
    """The command and its argument."""
    given = row.get("body", row.get("data"))
    if isinstance(given, dict):
        given = given.get("cmd", "")
    if isinstance(given, bytes | bytearray):
        given = bytes(given[:_HEAD]).decode("latin-1")
    command, _, argument = str(given).partition(":")
    return command, argument


def _answer(index, row, size, context):
    command, argument = _command(row)
    if command in _VALUES:
        return _VALUES[command]()
    if command == "batch":
        return {"batch": size, "index": index, "pid": os.getpid()}
    act = _ACTS.get(command)
    return act(argument, index, context) if act else _echo(index, row, size, context)


def _echo(index, row, size, context):
    return {
        "rows": size,
        "keys": list(row),
        "fields": {name: _field(value) for name, value in row.items()},
        "headers": context.get_all_request_header(index),
    }


def _field(value):
    kind = type(value).__name__
    if isinstance(value, bytes | bytearray):
        return {"type": kind, "len": len(value), "head": bytes(value[:_HEAD]).decode("latin-1")}
    return {"type": kind, "value": value}


def _context(argument, index, context):
    folder = Path(context.system_properties["model_dir"])
    return {
        "model_name": context.model_name,
        "manifest": context.manifest,
        "system_properties": context.system_properties,
        "model_yaml_config": context.model_yaml_config,
        "request_id_len": len(context.get_request_id(index)),
        "request_ids_keys": list(context.request_ids),
        "model_dir_listing": sorted(each.name for each in folder.iterdir() if each.name != "__pycache__"),
        "cwd_is_model_dir": Path.cwd().samefile(folder),
        "missing_header": context.get_request_header(index, "x-missing"),
        "get_response_status": context.get_response_status(index),
        "attrs": [name for name in dir(context) if not name.startswith("__")],
        "env": sorted(name for name in os.environ if name.startswith("TS_")),
    }


def _headers(argument, index, context):
    return {"headers": context.get_all_request_header(index)}


def _raise(error):
    raise error


def _status(argument, index, context):
    code, _, phrase = argument.partition(":")
    context.set_response_status(code=int(code), phrase=phrase, idx=index)
    return {"status_was": int(code)}


def _all_status(argument, index, context):
    context.set_all_response_status(code=int(argument), phrase="")
    return "all"


def _content_type(argument, index, context):
    context.set_response_content_type(index, argument)
    return "a,b\n1,2\n"


def _header(argument, index, context):
    name, _, value = argument.partition("=")
    context.set_response_header(index, name, value)
    return "with header"


def _stream(argument, index, context):
    for part in range(int(argument)):
        parts = [f"part{part} "] * len(context.request_ids)
        send_intermediate_predict_response(
            parts, context.request_ids, "Intermediate Prediction success", 200, context
        )
    return "last"


def _sleep(argument, index, context):
    time.sleep(float(argument))
    return f"slept {argument}"


def _metric(argument, index, context):
    context.metrics.add_counter("probe_counter", 1)
    context.metrics.add_time("probe_time", 1.5)
    context.metrics.add_size("probe_size", 2)
    context.metrics.add_percent("probe_percent", 50)
    context.metrics.add_error("probe_error", 1)
    return "metrics added"


_ACTS = {
    "ctx": _context,
    "headers": _headers,
    "raise": lambda argument, index, context: _raise(ValueError(argument)),
    "cuda": lambda argument, index, context: _raise(RuntimeError("CUDA out of memory")),
    "memory": lambda argument, index, context: _raise(MemoryError()),
    "predexc": lambda argument, index, context: _raise(PredictionException("custom message", int(argument))),
    "predexcdefault": lambda argument, index, context: _raise(PredictionException("custom message")),
    "status": _status,
    "allstatus": _all_status,
    "ctype": _content_type,
    "header": _header,
    "stream": _stream,
    "big": lambda argument, index, context: "x" * int(argument),
    "sleep": _sleep,
    "exit": lambda argument, index, context: os._exit(1),
    "sysexit": lambda argument, index, context: sys.exit(1),
    "metric": _metric,
}
