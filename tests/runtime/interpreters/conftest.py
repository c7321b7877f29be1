"""Packages, and one manager for all tests of a file: a process that imports torch takes seconds to start."""

from __future__ import annotations

import gc
import warnings

import psutil
import pytest
import torch
from torch.package import PackageExporter

from runtime.interpreters import InterpreterManager
from tests.processes import lives
from tests.runtime.interpreters import networks

RESNET_SHAPE = (1, 3, 224, 224)


@pytest.fixture(scope="module")
def manager():
    """Of three. Its tests leave all three working. Other files find no process of it."""
    with InterpreterManager(3, preload=("torchvision",)) as manager:
        yield manager


@pytest.fixture(autouse=True)
def _no_user_is_left(request):
    """Every session that a test has acquired is gone after it."""
    yield
    if "manager" in request.fixturenames:
        gc.collect()
        assert request.getfixturevalue("manager")._pool.balance._users == [0, 0, 0]


@pytest.fixture(scope="session")
def packages(tmp_path_factory):
    """A folder of packages and of their TorchScript twins."""
    folder = tmp_path_factory.mktemp("packages")
    torch.manual_seed(0)
    write(folder, "simple", networks.Simple(10, 20), (torch.ones(10, 20),))
    write(folder, "other", networks.Simple(10, 20), (torch.ones(10, 20),))
    write(folder, "batched", networks.Batched(), (torch.ones(2), torch.ones(2)), twin=False)
    write(folder, "multi_return", networks.MultiReturn(), ((torch.ones(2), torch.zeros(2)),), twin=False)
    write(folder, "counter", networks.Counter(), (), twin=False)
    return folder


@pytest.fixture(scope="session")
def resnet(packages):
    from torchvision.models import resnet18

    write(packages, "resnet", resnet18().eval(), (torch.rand(RESNET_SHAPE),))
    return packages / "resnet"


def write(folder, name, model, example, twin=True):
    """A package with model and example, beside the same model as TorchScript."""
    with warnings.catch_warnings(), PackageExporter(folder / name) as exporter:
        warnings.filterwarnings("ignore", "TypedStorage is deprecated")
        exporter.extern(["torch.**", "torchvision.**", "numpy.**"])
        exporter.intern("tests.**")
        exporter.save_pickle("model", "model.pkl", model)
        exporter.save_pickle("model", "example.pkl", example)
        exporter.save_text("extra_files", "text", "hello")
        exporter.save_binary("extra_files", "binary", b"hello")
    if twin:
        traced = torch.jit.trace(model, example) if name in ("resnet", "traced") else torch.jit.script(model)
        torch.jit.save(traced, folder / f"{name}_jit")


def write_source(file, source):
    """A package with one module, `m`."""
    with PackageExporter(file) as exporter:
        exporter.extern(["torch.**", "sys"])
        exporter.save_source_string("m", source)
    return file


@pytest.fixture
def processes():
    """A function that gives the processes that the test has started so far and that live."""
    others = psutil.Process().children(recursive=True)

    def left():
        mine = [each for each in psutil.Process().children(recursive=True) if each not in others]
        return [each for each in mine if lives(each)]

    return left
