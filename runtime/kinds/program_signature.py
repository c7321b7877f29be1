"""Arguments and results of a program, read from its file. Nothing is loaded."""

from __future__ import annotations

import ast
import json
import pickletools
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from models.networks.programs import EXPORT, TORCHSCRIPT
from runtime.signature import ANY, RESULT, TensorSpec

_BEGINNING = 4096  # bytes of a pickle, whose first word is the class of the module
_MOST_SOURCE = 20_000_000  # bytes
# TorchScript's names of types. A number or a text is a tensor of one element.
_TYPES: Mapping[str, tuple[str, tuple[int, ...] | None]] = {
    "Tensor": (ANY, None),
    "int": ("INT64", (1,)),
    "float": ("FP64", (1,)),
    "bool": ("BOOL", (1,)),
    "str": ("BYTES", (1,)),
}
# Of torch.export: https://github.com/pytorch/pytorch/blob/main/torch/_export/serde/schema.py, ScalarType
_SCALAR_TYPES = {
    1: "UINT8",
    2: "INT8",
    3: "INT16",
    4: "INT32",
    5: "INT64",
    6: "FP16",
    7: "FP32",
    8: "FP64",
    12: "BOOL",
    13: "BF16",
    28: "UINT16",
}
# What is raised on the way through a file that is not as it is expected.
_UNLIKE = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    SyntaxError,
    OSError,
    RecursionError,
    zipfile.BadZipFile,
)
_FORWARD = r"^class {}\(Module\):.*?^  (def forward\(.*?\) -> [^\n]*?:)\n"


class Signature(NamedTuple):
    """Arguments and results.

    Attributes:
        inputs: in the order of the call; none: not known, or there are other things than tensors.
        outputs: likewise.
        scalars: places of those inputs that are Python's numbers and texts.
    """

    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    scalars: frozenset[int] = frozenset()


def signature_of(file: Path, program: str) -> Signature:
    """The signature of a program, as far as its file tells it.

    Args:
        file: of it.
        program: "torchscript" or "torch.export"; of others nothing is known.
    """
    read = {TORCHSCRIPT: _of_torchscript, EXPORT: _of_export}.get(program)
    if read is not None:
        # The file was written by another version of torch, or is damaged: the engine tells when it is loaded.
        with suppress(*_UNLIKE), zipfile.ZipFile(file) as archive:
            return read(archive)
    return Signature()


def _of_torchscript(archive: zipfile.ZipFile) -> Signature:
    names = archive.namelist()
    (pickled,) = [name for name in names if name.count("/") == 1 and name.endswith("/data.pkl")]
    folder = pickled.removesuffix("data.pkl")
    with archive.open(pickled) as stream:
        module, name = _class_in(stream.read(_BEGINNING))
    source = archive.getinfo(f"{folder}code/{module.replace('.', '/')}.py")
    if source.file_size > _MOST_SOURCE:
        return Signature()
    text = archive.read(source).decode()
    found = re.search(_FORWARD.format(re.escape(name)), text, re.MULTILINE | re.DOTALL)
    if found is None or "\nclass " in found[0]:
        return Signature()
    (function,) = ast.parse(f"{found[1]} pass").body
    assert isinstance(function, ast.FunctionDef)
    arguments = [(each.arg, _text_of(each.annotation)) for each in function.args.args[1:]]
    scalars = frozenset(place for place, (_, kind) in enumerate(arguments) if kind != "Tensor")
    return Signature(_specs(arguments), _results(function.returns), scalars)


def _class_in(pickled: bytes) -> tuple[str, str]:
    """Module and name of the first class in a pickle. Raises ValueError."""
    for opcode, argument, _ in pickletools.genops(pickled):
        if opcode.name == "GLOBAL":
            module, _, name = str(argument).rpartition(" ")
            return module, name
    raise ValueError("no class")


def _results(annotation: ast.expr | None) -> tuple[TensorSpec, ...]:
    parts = [annotation]
    if isinstance(annotation, ast.Subscript) and _text_of(annotation.value) == "Tuple":
        parts = list(annotation.slice.elts) if isinstance(annotation.slice, ast.Tuple) else [annotation.slice]
    return _specs([(f"{RESULT}{place}", _text_of(each)) for place, each in enumerate(parts)])


def _text_of(annotation: ast.expr | None) -> str:
    return "" if annotation is None else ast.unparse(annotation)


def _specs(named: Sequence[tuple[str, str]]) -> tuple[TensorSpec, ...]:
    if any(kind not in _TYPES for _, kind in named):
        return ()
    return tuple([TensorSpec(name, *_TYPES[kind]) for name, kind in named])


def _of_export(archive: zipfile.ZipFile) -> Signature:
    (model,) = [name for name in archive.namelist() if name.endswith("/models/model.json")]
    module = json.loads(archive.read(model))["graph_module"]
    tensors, signature = module["graph"]["tensor_values"], module["signature"]
    call = module["module_call_graph"][0]["signature"]
    inputs = _of_user(signature["input_specs"], "user_input")
    outputs = _of_user(signature["output_specs"], "user_output")
    plain_in = call["in_spec"].count("builtins.dict") == 1  # of the keyword arguments, which are none
    named_in = [(name, name) for name in inputs]
    named_out = [(f"{RESULT}{place}", name) for place, name in enumerate(outputs)]
    return Signature(
        _exported(named_in, tensors) if plain_in else (),
        _exported(named_out, tensors) if "builtins.dict" not in call["out_spec"] else (),
    )


def _of_user(specs: Sequence[Mapping[str, Any]], kind: str) -> list[str]:
    """Names of the tensors that a caller gives, or gets. Raises KeyError: something is no tensor."""
    return [each[kind]["arg"]["as_tensor"]["name"] for each in specs if kind in each]


def _exported(named: Sequence[tuple[str, str]], tensors: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    return tuple(
        [
            TensorSpec(name, _SCALAR_TYPES.get(tensors[key]["dtype"], ANY), _sizes(tensors[key]["sizes"]))
            for name, key in named
        ]
    )


def _sizes(sizes: Sequence[Mapping[str, Any]]) -> tuple[int, ...]:
    return tuple([each.get("as_int", -1) for each in sizes])
