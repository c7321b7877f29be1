"""What a model returned -> the tensors of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from runtime.errors import InvalidInput
from runtime.model import ModelFacts
from runtime.outputs import Output, Scores, Value
from runtime.signature import RESULT
from runtime.values import Nested, Tensors
from server.dialects.open_inference.classification import best_of
from server.dialects.open_inference.inputs import Inputs
from server.dialects.open_inference.request import InferRequest, Wanted
from server.dialects.open_inference.tensors import Tensor, shown, tensor_of
from server.http.faults import BadRequest, Fault, Refusal, fault_of


def check_wanted(facts: ModelFacts, request: InferRequest) -> None:
    """Refuses outputs that the model does not have, as far as that is known. Raises BadRequest."""
    known = [each.name for each in facts.outputs]
    for wanted in request.wanted:
        if known and wanted.name not in known:
            raise _unknown(wanted.name, known)


def outputs_of(
    facts: ModelFacts, request: InferRequest, inputs: Inputs, answers: Sequence[Output | Exception]
) -> list[tuple[Tensor, Wanted]]:
    """The outputs that a request wants, each with how it wants it.

    Args:
        facts: of the model.
        request: that was answered.
        inputs: made of it.
        answers: for each of them.

    Raises:
        BadRequest: there is no output of a name.
        Refusal: an image of several cannot be answered; it names the first.
        Exception: what kept another request from being answered.
    """
    found = {each.name: each for each in _tensors(facts, inputs, answers)}
    wanted = request.wanted or [Wanted(name, 0, request.is_binary) for name in found]
    if unknown := [each.name for each in wanted if each.name not in found]:
        raise _unknown(unknown[0], found)
    labels = next((each.labels for each in answers if isinstance(each, Scores)), None)
    return [(best_of(found[each.name], each.classes, labels), each) for each in wanted]


def elements_of(answers: Sequence[Output | Exception]) -> int:
    """How many numbers and texts the answers have."""
    return sum(_size(each.values if isinstance(each, Scores) else each) for each in answers)


def _size(part: Any) -> int:
    if isinstance(part, np.ndarray):
        return part.size
    if isinstance(part, dict):
        return sum(map(_size, part.values()))
    return sum(map(_size, part)) if isinstance(part, list | tuple) else 1


def _tensors(facts: ModelFacts, inputs: Inputs, answers: Sequence[Output | Exception]) -> list[Tensor]:
    for place, answer in enumerate(answers):
        if isinstance(answer, Exception):
            raise _located(answer, place) if inputs.is_batch else answer
    first = answers[0]
    if isinstance(first, Scores):
        rows = np.stack([each.values for each in answers if isinstance(each, Scores)])
        return [tensor_of(facts.outputs[0].name, rows if inputs.is_batch else rows[0])]
    if isinstance(first, Value):
        return _of_tree(first.tree, [each.name for each in facts.outputs])
    if isinstance(first, Tensors):
        return [tensor_of(name, array) for name, array in first.arrays.items()]
    raise InvalidInput("This model gives documents, no tensors.")


def _located(error: Exception, place: int) -> Exception:
    """An error of one image of several, with its place."""
    fault = fault_of(error)
    if fault.status >= 500:
        return error
    detail = f"Image {place} of the request, counted from 0: {fault.detail}"
    return Refusal(Fault(fault.status, fault.kind, fault.title, detail, fault.extras, fault.headers))


def _of_tree(tree: Nested, names: Sequence[str]) -> list[Tensor]:
    """Tensors of what a program returned, named in order; those of a dict by their keys.

    Raises:
        BadRequest: there is something else in it.
    """
    parts = list(_parts("", tree))
    if not isinstance(tree, dict) and len(names) == len(parts):
        parts = [(name, leaf) for name, (_, leaf) in zip(names, parts, strict=True)]
    return [_tensor(name, leaf) for name, leaf in parts]


def _parts(name: str, tree: Nested) -> Iterator[tuple[str, Any]]:
    """Every leaf, and a name that says where it is: "OUTPUT__0", "key", "key__1"."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _parts(f"{name}__{key}" if name else key, value)
    elif isinstance(tree, list | tuple):
        for place, value in enumerate(tree):
            yield from _parts(f"{name}__{place}" if name else f"{RESULT}{place}", value)
    else:
        yield name or f"{RESULT}0", tree


def _tensor(name: str, leaf: Any) -> Tensor:
    if isinstance(leaf, str):
        return tensor_of(name, [leaf], (1,))
    if leaf is None:
        raise BadRequest(f"output '{name}': the model returned None")
    return tensor_of(name, leaf if isinstance(leaf, np.ndarray) else np.array([leaf]))


def _unknown(name: str, known: Iterable[str]) -> BadRequest:
    there = ", ".join(f"'{each}'" for each in known)
    return BadRequest(f"output '{shown(name)}' is unknown; the model gives {there}")
