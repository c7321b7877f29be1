"""Envelopes around a handler that shows what it gets."""

from __future__ import annotations

import base64
import json

import pytest

from models.errors import EngineError
from models.handlers.answers import body_of
from models.handlers.context import Context
from models.handlers.envelope import ENVELOPES, in_envelope

MANIFEST = {"model": {"modelName": "m", "modelVersion": "2.0"}}
TEXT = base64.b64encode(b"ab").decode()


def asked(envelope, *bodies, explain="False", entry=None):
    """The answers to requests with these bodies, and what the handler was given."""
    context, seen = Context("m", "/", MANIFEST, 4, None), []

    def show(rows, context):
        seen.extend(rows)
        return entry(rows) if entry else list(range(len(rows)))

    context.begin(["id"] * len(bodies), [{"explain": explain}] * len(bodies))
    data = [{"body": each} for each in bodies]
    return in_envelope(envelope, show)(data, context), seen


def test_json_has_instances_of_several_requests_and_decodes_base64():
    answers, seen = asked(
        "json",
        {"instances": [{"data": [1, 2]}, {"data": {"b64": TEXT}}]},
        json.dumps({"instances": [{"b64": TEXT}]}).encode(),
    )
    assert seen == [{"data": [1, 2]}, {"data": b"ab"}, {"data": b"ab"}]
    assert answers == ['{"predictions": [0, 1]}', '{"predictions": [2]}']


def test_body_is_the_content_itself():
    answers, seen = asked("body", {"a": 1}, bytearray(b"[2]"))
    assert (answers, seen) == ([0, 1], [{"a": 1}, [2]])


def test_kserve_answers_every_request_of_a_batch():
    answers, seen = asked(
        "kserve", bytearray(b'{"instances": [{"data": "x", "target": 0}, 5]}'), {"instances": [1]}
    )
    assert seen == [{"data": "x", "target": 0}, {"data": 5}, {"data": 1}]
    assert answers == [{"predictions": [0, 1]}, {"predictions": [2]}]
    assert asked("kserve", {"instances": [1]}, explain="True")[0] == [{"explanations": [0]}]


def test_kservev2_has_an_output_for_each_input_and_its_shape():
    given = {"name": "a", "shape": [1, 2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}
    words = {"name": "b", "shape": [-1], "datatype": "BYTES", "data": [TEXT]}
    answers, seen = asked(
        "kservev2",
        {"id": "x", "inputs": [given, words]},
        {"inputs": [{**given, "data": [[[5.0, 6.0], [7.0, 8.0]]]}]},
        entry=lambda rows: [2, [[0.5, 1.0]], {"label": 0.5}],
    )
    assert seen == [{"data": [[[1, 2], [3, 4]]]}, {"data": TEXT}, {"data": [[[5.0, 6.0], [7.0, 8.0]]]}]
    assert answers[0] == {
        "id": "x",
        "model_name": "m",
        "model_version": "2.0",
        "outputs": [
            {"name": "a", "datatype": "INT64", "data": [2], "shape": [1]},
            {"name": "b", "datatype": "FP64", "data": [0.5, 1.0], "shape": [1, 2]},
        ],
    }
    assert answers[1]["outputs"] == [{"name": "a", "datatype": "BYTES", "data": [{"label": 0.5}], "shape": [1]}]
    assert len(answers[1]["id"]) == 36 and body_of(answers[1]).startswith(b'{\n  "id": ')


@pytest.mark.parametrize("envelope", ["json", "kserve", "kservev2"])
@pytest.mark.parametrize("body", [b"{bad", {}, [], {"instances": 1}, {"inputs": [{"name": "a"}]}, 7])
def test_what_does_not_fit_is_an_error(envelope, body):
    with pytest.raises((ValueError, KeyError)):
        asked(envelope, body)


@pytest.mark.parametrize("shape", [[2, 2], [-1], ["a"]])
def test_a_shape_that_does_not_fit_the_values_is_an_error(shape):
    with pytest.raises(ValueError):
        asked("kservev2", {"inputs": [{"name": "a", "shape": shape, "datatype": "FP32", "data": [1]}]})


@pytest.mark.parametrize("envelope", sorted(ENVELOPES))
def test_a_wrong_number_of_results_is_passed_on_as_one(envelope):
    body = {"instances": [1], "inputs": [{"name": "a", "shape": [1], "datatype": "FP32", "data": [1]}]}
    assert asked(envelope, body, entry=lambda rows: [1, 2, 3])[0] == []
    assert asked(envelope, body, entry=lambda rows: None)[0] is None


def test_an_unknown_envelope_is_told():
    with pytest.raises(EngineError, match="no service envelope 'x', only body, json, kserve, kservev2"):
        in_envelope("x", print)
