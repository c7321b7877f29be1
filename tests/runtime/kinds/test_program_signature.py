"""What a file says of its program's arguments, and what the settings beside it say."""

from __future__ import annotations

import json
import warnings
import zipfile

import numpy as np
import pytest
import torch

from models.errors import BundleError
from models.images.preprocess import Preprocessor
from runtime.errors import InvalidInput
from runtime.kinds.program_signature import Signature, signature_of
from runtime.kinds.tensor_model import open_tensor_model
from runtime.signature import TensorSpec
from runtime.values import BFLOAT16, Tensors
from tests.runtime import programs


def names(specs):
    return [each.name for each in specs]


def traced(module, arguments, file):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.save(torch.jit.trace(module, arguments), file)
    return file


@pytest.mark.parametrize(
    ("program", "inputs", "outputs", "scalars"),
    [
        ("Two", ["x", "y"], ["OUTPUT__0"], []),
        ("SumAndDifference", ["INPUT0", "INPUT1"], ["OUTPUT__0", "OUTPUT__1"], []),
        ("Repeated", ["s", "n"], ["OUTPUT__0"], [0, 1]),
        ("Described", ["IN"], ["OUTPUT__0", "OUTPUT__1"], []),
        ("Zero", [], ["OUTPUT__0"], []),
        ("Nested", ["x"], [], []),
        ("TensorList", [], [], [0]),
        ("Example", [], [], [0, 2, 3, 4]),
    ],
)
def test_torchscript_names_its_arguments(tmp_path, program, inputs, outputs, scalars):
    found = signature_of(programs.save(getattr(programs, program)(), tmp_path / "m.pt"), "torchscript")
    assert (names(found.inputs), names(found.outputs), sorted(found.scalars)) == (inputs, outputs, scalars)


def test_a_traced_module_and_one_whose_name_was_changed(tmp_path):
    for number in range(3):
        file = traced(torch.nn.Linear(3, 2), torch.ones(1, 3), tmp_path / f"{number}.pt")
        assert names(signature_of(file, "torchscript").inputs) == ["input"]


def test_an_exported_program_tells_datatypes_and_shapes(tmp_path):
    batch = torch.export.Dim("batch")
    ones = torch.ones(2, 3, dtype=torch.int64)
    file = tmp_path / "m.pt2"
    programs.export(programs.Two(), (ones, torch.ones(3)), file, dynamic_shapes={"x": {0: batch}, "y": None})
    found = signature_of(file, "torch.export")
    assert found.inputs == (TensorSpec("x", "INT64", (-1, 3)), TensorSpec("y", "FP32", (3,)))
    assert found.outputs == (TensorSpec("OUTPUT__0", "FP32", (-1, 3)),)
    programs.export(programs.DictOut(), (ones,), file)
    assert signature_of(file, "torch.export").outputs == (), "they have the names of the dict"


def test_a_file_that_is_not_as_expected_says_nothing(tmp_path):
    file = tmp_path / "m.pt"
    for entries in (
        {},
        {"m/data.pkl": b""},
        {"m/data.pkl": b"\x80\x02c__torch__\nM\n."},
        {"m/models/model.json": b"{}"},
    ):
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
        for program in ("torchscript", "torch.export", "torch.package"):
            assert signature_of(file, program) == Signature()
    file.write_bytes(b"no archive")
    assert signature_of(file, "torchscript") == Signature()


def opened(folder, program, settings):
    programs.save(program, folder / "m.pt")
    (folder / "m.json").write_text(json.dumps(settings))
    return open_tensor_model("m", folder / "m.pt", Preprocessor)


def test_settings_name_tensors_in_the_order_of_the_call(tmp_path):
    inputs = [{"name": "B", "datatype": "FP32", "shape": [-1, 3]}, {"name": "A"}]
    model = opened(tmp_path, programs.Two(), {"inputs": inputs, "outputs": [{"name": "C"}]})
    assert model.facts.inputs == (TensorSpec("B", "FP32", (-1, 3)), TensorSpec("A"))
    assert names(model.facts.outputs) == ["C"]
    a, b = np.zeros(1), np.ones(1)
    assert model.prepare(Tensors({"A": a, "B": b})) == (b, a)
    for arrays in ({"A": a}, {"A": a, "B": b, "C": a}, {"x": a, "y": b}):
        with pytest.raises(InvalidInput, match="takes B, A"):
            model.prepare(Tensors(arrays))


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({}, "must be a list"),
        (["x"], "must be a list"),
        ([{}], "each needs a name"),
        ([{"name": ""}], "each needs a name"),
        ([{"name": "x"}, {"name": "x"}], "a name is there twice"),
        ([{"name": "x", "datatype": "float"}], "datatype 'float' must be one of"),
        ([{"name": "x", "shape": [1.5]}], "must be a list of whole numbers"),
        ([{"name": "x", "shape": "3"}], "must be a list of whole numbers"),
        ([{"name": "x", "dims": [1]}], "unknown field 'dims'"),
    ],
)
def test_settings_that_name_no_tensors_are_refused(tmp_path, inputs, text):
    with pytest.raises(BundleError, match=rf"m\.json: inputs: .*{text}"):
        opened(tmp_path, programs.Two(), {"inputs": inputs})


def test_scalars_texts_and_bfloat16_reach_a_program(tmp_path):
    model = opened(tmp_path, programs.Repeated(), {})
    texts = np.array(["ab"], object)
    assert model.prepare(Tensors({"s": texts, "n": np.array([2])})) == ("ab", 2)
    with pytest.raises(InvalidInput, match="no text"):
        opened(tmp_path, programs.Id(), {}).prepare(Tensors({"x": texts}))
    bits = np.array([0x3F80, 0x4000], np.uint16).view(BFLOAT16)
    from tests.runtime.kinds.test_tensor_model import engine_of

    ((half,),) = engine_of(tmp_path, programs.BFloat16()).infer([(np.array([1, 2], np.float32),)])
    ((same,),) = engine_of(tmp_path, programs.Id()).infer([(bits,)])
    assert half.dtype == same.dtype == BFLOAT16 and half.tolist() == same.tolist() == bits.tolist()
