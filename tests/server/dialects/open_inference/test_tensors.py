"""Tensors as JSON and as bytes."""

from __future__ import annotations

import numpy as np
import orjson
import pytest

from runtime.values import BFLOAT16
from server.dialects.open_inference.classification import best_of
from server.dialects.open_inference.datatypes import DTYPES, check_datatype, check_shape
from server.dialects.open_inference.request import check_names, read_document
from server.dialects.open_inference.tensors import from_bytes, from_json, tensor_of, to_bytes, to_json
from server.http.faults import BadRequest


def bytes_of(name):
    """Three elements of a datatype as they are sent."""
    if name == "BF16":
        return np.array([0x3F80, 0x4000, 0x7FC0], "<u2").tobytes()
    return np.array([0, 1, 1] if name == "BOOL" else [0, 1, 100], DTYPES[name]).tobytes()


def text_of(tensor):
    """The JSON of its elements."""
    return orjson.dumps(to_json(tensor))


@pytest.mark.parametrize("name", DTYPES)
def test_bytes_come_back_as_they_were(name):
    data = bytes_of(name)
    tensor = from_bytes("x", name, (1, 3), memoryview(b"odd" + data)[3:])
    assert tensor.values.shape == (1, 3) and tensor.values.dtype == DTYPES[name] and tensor.values.flags.aligned
    assert bytes(to_bytes(tensor)) == data
    assert bytes(to_bytes(tensor_of("y", np.asfortranarray(tensor.values)))) == data


@pytest.mark.parametrize("name", [each for each in DTYPES if each != "BF16"])
def test_json_comes_back_as_it_was_flat(name):
    given = [True, False] if name == "BOOL" else [1, 100]
    for data in (given, [given]):
        tensor = from_json("x", name, (1, 2), data)
        assert tensor.values.tolist() == [given]
        assert text_of(tensor) in (b"[1,100]", b"[1.0,100.0]", b"[true,false]")


def test_numbers_that_json_does_not_know_are_written_as_python_writes_them():
    values = np.array([0.1, np.nan, np.inf, -np.inf, 1e30], np.float32)
    assert text_of(tensor_of("x", values)) == b"[0.1,NaN,Infinity,-Infinity,1e+30]"
    assert text_of(tensor_of("x", np.zeros((0, 3)))) == b"[]"
    many = np.arange(50_000, dtype=np.int32)
    assert text_of(tensor_of("x", many)).count(b",") == 49_999


def test_texts_and_files_are_elements_of_bytes():
    data = b"\x07\0\0\0\xff\xd8\xffjpeg\x03\0\0\0two\0\0\0\0"
    tensor = from_bytes("x", "BYTES", (3,), memoryview(data))
    assert [bytes(each) for each in tensor.values] == [b"\xff\xd8\xffjpeg", b"two", b""]
    assert to_bytes(tensor) == data
    assert text_of(tensor_of("x", ["caf\u00e9", b"two"], (2,))) == '["caf\u00e9","two"]'.encode()
    with pytest.raises(BadRequest, match="no text"):
        to_json(tensor)


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        ("FP32", (1, 3), bytes(8), r"\[1, 3\] of FP32 takes 12 bytes, 8 were sent"),
        ("BOOL", (2,), b"\1\2", "must be 0 or 1"),
        ("BYTES", (2,), b"\1\0\0\0a", "end within element 1 of 2"),
        ("BYTES", (1,), b"\xff\xff\xff\xffa", "end within element 0 of 1"),
        ("BYTES", (1,), b"\1\0\0", "end within element 0"),
        ("BYTES", (1,), b"\1\0\0\0ab", "1 bytes are left behind"),
        ("BYTES", (1 << 32,), b"", "end within element 0 of 4,294,967,296"),
    ],
)
def test_bytes_that_lie_are_refused(datatype, shape, data, text):
    with pytest.raises(BadRequest, match=text):
        from_bytes("x", datatype, shape, memoryview(data))


@pytest.mark.parametrize(
    ("datatype", "shape", "data", "text"),
    [
        ("FP32", (2,), [1.0], "has 2 elements, 1 were sent"),
        ("FP32", (2,), 1.0, "must be a list"),
        ("FP32", (2,), [1.0, "1"], "element 1 of 'data' is no FP32"),
        ("FP32", (2,), [1.0, None], "element 1"),
        ("FP32", (2,), [1.0, True], "element 1"),
        ("INT8", (2,), [1, 1.5], "element 1 of 'data' is no INT8"),
        ("INT8", (2,), [1, 128], "out of range for INT8"),
        ("UINT64", (1,), [-1], "out of range"),
        ("FP64", (1,), [10**400], "out of range"),
        ("BOOL", (1,), [1], "no BOOL"),
        ("BYTES", (1,), [1], "must be texts"),
        ("BF16", (1,), [1.0], "binary data"),
        ("FP32", (2, 2), [[1.0, 2.0], [3.0]], "not nested like its shape"),
        ("FP32", (2, 2), [[1.0, 2.0], 3.0], "not nested like its shape"),
        ("FP32", (2, 2), [[1.0, 2.0]], "not nested like its shape"),
        ("FP32", (2,), [[1.0], [2.0]], "no FP32|not nested|elements"),
    ],
)
def test_json_that_lies_is_refused(datatype, shape, data, text):
    with pytest.raises(BadRequest, match=text):
        from_json("x", datatype, shape, data)


@pytest.mark.parametrize("shape", [None, "12", [-1], [1.0], [True], ["1"], [1 << 63], [1 << 40, 0], [1] * 65, {}])
def test_shapes_that_no_tensor_has(shape):
    with pytest.raises(BadRequest):
        check_shape(shape, "x")


@pytest.mark.parametrize("datatype", [None, "", "FP8", "fp32", ["FP32"], 1])
def test_datatypes_that_are_none(datatype):
    with pytest.raises(BadRequest):
        check_datatype(datatype, "x")


def test_the_best_classes_as_text():
    tensor = tensor_of("y", np.array([[1.1, 3.3, 0.5, 2.4], [1, 1, 0, 0]], np.float32))
    best = best_of(tensor, 2, None)
    assert (best.datatype, best.shape, best.values) == ("BYTES", (2, 2), ["3.3:1", "2.4:3", "1.0:0", "1.0:1"])
    one = best_of(tensor_of("y", np.array([1.1, 3.3], np.float32)), 9, ("cat", "dog"))
    assert (one.shape, one.values) == ((2,), ["3.3:1:dog", "1.1:0:cat"])
    with pytest.raises(BadRequest):
        best_of(tensor_of("y", np.zeros(2, BFLOAT16)), 1, None)
    with pytest.raises(BadRequest):
        best_of(tensor_of("y", ["a"], (1,)), 1, None)


def test_what_pythons_own_parser_reads_is_short():
    text = b'{"inputs": [], "x": NaN' + b" " * 1_000_000 + b"}"
    with pytest.raises(BadRequest, match="cannot be parsed"):
        read_document(memoryview(text), len(text))


def test_a_name_that_is_there_twice_is_found_without_comparing_all_with_all():
    compared = []

    class Name(str):
        __slots__ = ()
        __hash__ = str.__hash__

        def __eq__(self, other):
            compared.append(other)
            return str.__eq__(self, other)

    names = [Name(number) for number in (*range(2000), 1999)]
    with pytest.raises(BadRequest, match="input '1999' is there twice"):
        check_names(names, "input")
    assert len(compared) < 10 * len(names)
    check_names(names[:-1], "input")
