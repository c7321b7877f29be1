"""Typed JSON values: every type and dtype there and back, and what is wrong with others."""

from __future__ import annotations

import math

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from models.engines.base import EngineOptions
from models.images.preprocess import Preprocessor
from runtime.inputs import Arguments, Image
from runtime.kinds.tensor_model import open_tensor_model
from runtime.values import DTYPES
from server.dialects.torch_serving.envelope import good
from server.dialects.torch_serving.handlers import parsed
from server.dialects.torch_serving.values import arguments_of, json_of
from server.http.faults import Refusal
from tests.runtime import programs

INT64 = st.integers(-(2**63), 2**63 - 1)
SHAPES = npst.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=3)
TENSORS = st.sampled_from(sorted(DTYPES)).flatmap(
    lambda name: npst.arrays(
        DTYPES[name], SHAPES, elements=npst.from_dtype(DTYPES[name], allow_nan=False, allow_infinity=False)
    )
)
TEXT = st.text(max_size=20)


@pytest.fixture(scope="module")
def call(tmp_path_factory):
    """A function from the name of a program and a request's JSON to the `result` in the answer."""
    root, engines = tmp_path_factory.mktemp("programs"), {}

    def run(name, document):
        if name not in engines:
            file = programs.save(getattr(programs, name)(), root / f"{name}.pt")
            engines[name] = open_tensor_model(name, file, Preprocessor)
            engines[name].engine = engines[name].load(EngineOptions(device="cpu"))
        model, given = engines[name], parsed(orjson.dumps(document))
        assert isinstance(given, Arguments), given
        (row,) = model.engine.infer([model.prepare(given)])
        return orjson.loads(good(json_of(model.finish(row).tree)).body).get("result")

    return run


def tensor_json(array):
    """A tensor as a client writes it: a number that JSON has for each entry."""
    shape = list(array.shape)
    return {"type": "tensor", "data_type": array.dtype.name, "shape": shape, "value": array.reshape(-1).tolist()}


def tensor_of(found):
    """What a client reads from a tensor."""
    assert list(found) == ["data_type", "shape", "type", "value"] and found["type"] == "tensor"
    return np.array(found["value"], found["data_type"]).reshape(found["shape"])


def same(first, second):
    return first.dtype == second.dtype and first.shape == second.shape and np.array_equal(first, second)


@given(array=TENSORS)
@settings(deadline=None)
def test_a_tensor_of_any_dtype_comes_back_as_it_went_in(call, array):
    assert same(tensor_of(call("Id", tensor_json(array))), array)
    assert same(tensor_of(call("Id", [tensor_json(array)])), array)


@given(arrays=st.lists(TENSORS, max_size=3))
@settings(deadline=None, max_examples=50)
def test_a_list_of_tensors(call, arrays):
    found = call("TensorList", {"type": "tensor_list", "value": [tensor_json(each) for each in arrays]})
    assert all(same(tensor_of(there), each) for there, each in zip(found or [], arrays, strict=True))


@given(arrays=st.dictionaries(TEXT, TENSORS, max_size=3))
@settings(deadline=None, max_examples=50)
def test_a_dict_of_tensors(call, arrays):
    given = {"type": "tensor_dict", "value": {key: tensor_json(each) for key, each in arrays.items()}}
    found = call("TensorDict", given)
    values = found.get("value", {})
    assert found["type"] == "generic_dict" and list(values) == sorted(values) and values.keys() == arrays.keys()
    assert all(same(tensor_of(values[key]), each) for key, each in arrays.items())


INTS = sorted(name for name in DTYPES if "int" in name)


@given(data=st.data(), name=st.sampled_from(INTS))
@settings(deadline=None)
def test_whole_numbers(call, data, name):
    limits = np.iinfo(name)
    n = data.draw(st.integers(int(limits.min), int(limits.max)))
    expected = (2 * n + 2**63) % 2**64 - 2**63  # as 64 bits have it
    found = call("Int", {"type": "scalar", "data_type": name, "value": n})
    assert found == {"data_type": "int64", "type": "scalar", "value": expected}


@given(data=st.data(), name=st.sampled_from(["float16", "float32", "float64"]))
@settings(deadline=None)
def test_fractions(call, data, name):
    width = {"float16": 16, "float32": 32, "float64": 64}[name]
    x = data.draw(st.floats(allow_nan=False, allow_infinity=False, width=width))
    found = call("Float", {"type": "scalar", "data_type": name, "value": x})
    assert found == {"data_type": "float64", "type": "scalar", "value": x / 3}


@given(text=TEXT, flag=st.booleans())
@settings(deadline=None, max_examples=50)
def test_text_and_truth(call, text, flag):
    assert call("Str", {"type": "string", "value": text}) == {"type": "string", "value": text + "!"}
    found = call("Bool", {"type": "scalar", "data_type": "bool", "value": int(flag)})
    assert found == {"data_type": "bool", "type": "scalar", "value": not flag}


def arguments(document):
    return arguments_of(orjson.loads(orjson.dumps(document)))


def fault(document):
    """Description and text of a request that is wrong."""
    with pytest.raises(Refusal) as refused:
        arguments(document)
    assert refused.value.fault.status == 400
    return refused.value.fault.title, refused.value.fault.detail


def numbers(values, name="float32", shape=None):
    shape = [len(values)] if shape is None else shape
    return {"type": "tensor", "data_type": name, "shape": shape, "value": values}


def array(values, name="float32", shape=None):
    (found,) = arguments(numbers(values, name, shape))
    return found


def test_numbers_are_parsed_in_the_dtype_that_they_get():
    assert array([2**24 + 1, 2**53 + 1, 1.5, -(2**63)], "int64").tolist() == [2**24 + 1, 2**53 + 1, 1, -(2**63)]
    assert array([0.1, 1e300], "float64").tolist() == [0.1, 1e300]
    assert array([0.1], "float16")[0] == np.float16(0.1)
    assert array([1e300, -1e300]).tolist() == [math.inf, -math.inf]
    assert array([1.7, -1.7, True], "int32").tolist() == [1, -1, 1]
    assert array([0, 0.5, 2, True, 1e-300], "bool").tolist() == [False, True, True, True, True]
    assert array([True, False]).tolist() == [1.0, 0.0]
    assert array([5], shape=[]).shape == () and array([], shape=[2, 0]).shape == (2, 0)
    assert array([1, 2], shape=[2.0]).shape == (2,)
    assert all(array([1], name).flags.writeable for name in DTYPES)
    (scalar,) = arguments({"type": "scalar", "data_type": "float32", "value": 0.1})
    assert scalar == float(np.float32(0.1))


@pytest.mark.parametrize(
    ("values", "name", "shown"),
    [
        ([1, 300], "uint8", "Number 2 of 'value', 300, is out of range for uint8"),
        ([-1], "uint8", "Number 1 of 'value', -1, is out of range for uint8"),
        ([2**63], "int64", "Number 1 of 'value', 9223372036854775808, is out of range for int64"),
        ([0.5, 1e300], "int8", "Number 2 of 'value', 1e+300, is out of range for int8"),
        ([0.5, 128], "int8", "Number 2 of 'value', 128, is out of range for int8"),
    ],
)
def test_a_number_beyond_its_dtype_is_told_with_its_place(values, name, shown):
    assert fault(numbers(values, name)) == ("Incompatible tensor data type", shown)


@pytest.mark.parametrize("name", ["float32", "int64", "bool"])
@pytest.mark.parametrize(
    ("value", "kind"), [(None, "null"), ("1", "string"), ([1], "array"), ({}, "object"), ("x" * 10_000, "string")]
)
def test_what_is_no_number_is_told_with_its_place(name, value, kind):
    text = f"'value' must be numbers, but entry 3 is of type {kind}"
    assert fault(numbers([1, 2.5, value, None], name)) == ("Invalid Input JSON", text)


@pytest.mark.parametrize(
    ("shape", "count", "text"),
    [
        ([3], 2, "Dimension mismatch - shape expected 3 total elements, found 2 total elements"),
        ([-1, 2], 4, "Dimension mismatch - shape expected -2 total elements, found 4 total elements"),
        ([-2, -2], 4, "A dimension cannot be negative: -2"),
        ([0, -1], 0, "A dimension cannot be negative: -1"),
        ([1] * 65, 1, "A tensor may have 64 dimensions, found 65"),
        ([2**62, 2**62, 0], 0, "The dimensions beside the empty one are too large"),
        ([2.0**70, 0], 0, "The dimensions beside the empty one are too large"),
    ],
)
def test_a_shape_that_does_not_fit(shape, count, text):
    assert fault(numbers([1] * count, "float32", shape)) == ("Incompatible tensor shapes", text)


@pytest.mark.parametrize(
    ("size", "shown"), [(2.7, "2.7"), (True, "True"), ("2", "'2'"), (None, "None"), ([2], "[2]")]
)
def test_a_shape_that_is_no_whole_numbers(size, shown):
    text = f"'shape' must be whole numbers, but {shown} is in it"
    assert fault(numbers([1, 2], "float32", [size])) == ("Invalid Input JSON", text)


NO_SHAPE = "Error parsing payload, expected 'shape' to be an array for 'type' of 'tensor'"
ONE = {"type": "tensor", "shape": [1], "value": [1]}


@pytest.mark.parametrize(
    ("document", "text"),
    [
        (5, "Must be an array of objects"),
        ([ONE, [ONE]], "Must be an array of objects"),
        ({"type": "tensor_list", "value": {}}, "Type tensor_list must be an array"),
        ({"type": "tensor_list", "value": [1]}, NO_SHAPE),
        ({"type": "tensor_list", "value": [{**ONE, "data_type": 1}]}, "If specified, data_type must be a string"),
        ({"type": "tensor_dict", "value": []}, "Type tensor_dict must be an object"),
        ({"type": "tensor_dict", "value": {"a": None}}, NO_SHAPE),
        ({"type": "string", "value": 5}, "Type string must specify a string value"),
        (
            {"type": "image", "value": "a%"},
            "Type image must be base64, but 'value' has \"%\" at character 2, which",
        ),
        ({"type": "x" * 1000, "value": 5}, "Unsupported type: " + "x" * 100),
    ],
)
def test_what_has_the_wrong_form(document, text):
    description, found = fault(document)
    assert description == "Invalid Input JSON" and found.startswith(text) and len(found) < 200


def test_no_arguments_and_an_image():
    assert arguments(None) == arguments([]) == ()
    assert arguments({"type": "image", "value": "YWJj"}) == (Image(b"abc"),)


def test_results_of_every_kind():
    tensor = np.arange(4, dtype=np.float16).reshape(2, 2).T
    tree = {"t": (tensor, [tensor], {}, ""), "s": {"é": (True, 2**62, 0.5)}}
    values = orjson.loads(good(json_of(tree)).body)["result"]["value"]
    assert values["t"][0]["value"] == [0, 2, 1, 3], "the order of the shape, not that of the memory"
    assert values["t"][2:] == [{"type": "generic_dict"}, {"type": "string", "value": ""}]
    assert values["s"]["value"]["é"][1] == {"data_type": "int64", "type": "scalar", "value": 2**62}
    special = json_of(np.array([math.nan, math.inf, 0.1, 60], np.float32))
    assert b'"value":[null,null,0.10000000149011612,60.0]' in good(special).body
    assert good(json_of(math.nan)).body.endswith(b'"value":null}}')


@pytest.mark.parametrize("tree", [None, [1], ["a"], (None,), {"a": [{}]}])
def test_results_that_have_no_json(tree):
    with pytest.raises(Refusal, match="Only supports Tensor and TensorList types"):
        json_of(tree)


@pytest.mark.parametrize("tree", [[], (), {}])
def test_an_empty_result_is_left_out(tree):
    document = orjson.loads(good(json_of(tree)).body)
    assert document.get("result") == ({"type": "generic_dict"} if tree == {} else None)
