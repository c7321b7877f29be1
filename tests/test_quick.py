"""`make quick` takes the tests that import nothing slow, and notices one that does so all the same."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from tests import conftest
from tests.modules import ROOT
from tests.quick import is_quick


@pytest.mark.parametrize(
    ("source", "quick"),
    [
        ("import numpy\nfrom batching.batcher import Batcher", True),
        ("import torch", False),
        ("def test():\n    import openvino", False),
        ("from models.networks.graph import ServingGraph", False),
        ("def test():\n    from models.networks.graph import ServingGraph", False),
        ("from tests.models.small import save", False),
        ("from models.images.resize import resize_crop", True),
        ("import subprocess", False),
        ("from benchmark.harness.server import ServerProcess", False),
    ],
)
def test_a_file_is_quick_unless_its_imports_reach_torch_or_a_process(source, quick, tmp_path):
    file = tmp_path / "test_it.py"
    file.write_text(source)
    assert is_quick(file) == quick


def test_the_conftest_of_a_folder_counts():
    assert not any(map(is_quick, (ROOT / "tests/end_to_end").glob("test_*.py")))


@pytest.mark.parametrize(("markers", "fails"), [("quick", True), ("", False)])
def test_a_quick_test_that_imports_torch_fails(markers, fails, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace())
    test = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(markexpr=markers)))
    if fails:
        with pytest.raises(pytest.fail.Exception, match="imports torch"):
            conftest.pytest_runtest_teardown(test)
    conftest.pytest_runtest_teardown(test)
