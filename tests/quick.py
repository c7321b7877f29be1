"""Which test files are quick: those that load no tensor library and start no process.

Read from the imports, so that nothing has to be listed; tests/conftest.py marks the tests by it.
"""

from __future__ import annotations

from functools import cache

from tests.modules import ROOT, file_of, imports, reached

# Each takes a second or more to import.
SLOW = {"torch", "torchvision", "openvino", "nncf", "onnx", "onnxruntime", "timm", "sklearn", "selenium"}
PROCESSES = {"subprocess", "multiprocessing"}
SERVERS = "benchmark.harness.server"


@cache
def is_quick(file):
    """Whether neither a test file, its conftest files nor their helpers import anything slow or start processes.

    Of the project's own modules counts what they import when they are imported. Modules that the project imports
    only when it needs them are seen when the test runs.
    """
    conftests = [folder / "conftest.py" for folder in file.parents if (folder / "conftest.py").is_file()]
    named = [found for name in imports(file) for found in file_of(name)]
    found = {name for place in (file, *conftests, *named) for name in reached(place, at_import=True)}
    helpers = {place for name in found for place in file_of(name) if place.is_relative_to(ROOT / "tests")}
    own = {name for place in (file, *conftests, *helpers) for name in imports(place)}
    return not (top(found | own) & SLOW or SERVERS in found | own or top(own) & PROCESSES)


def top(names):
    return {name.split(".")[0] for name in names}
