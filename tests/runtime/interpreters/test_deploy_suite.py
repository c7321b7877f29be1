"""torch::deploy's own tests, with their inputs. The numbers are those of docs/interpreters.md."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
import torch

from runtime.interpreters import InterpreterError
from tests.conftest import ROOT
from tests.processes import outlive
from tests.runtime.interpreters.conftest import RESNET_SHAPE, write_source

close = partial(torch.testing.assert_close, rtol=1e-3, atol=1e-5)
IMPORTS = """
argparse asyncio collections copy ctypes dataclasses datetime decimal email enum functools hashlib heapq http
inspect io itertools json logging math multiprocessing os pathlib pickle random re sqlite3 ssl statistics string
struct subprocess tempfile threading typing unittest urllib uuid xml zipfile zlib numpy torch torch.fx torch.jit
torchvision torch.nn.functional torch.optim torch.package torch.utils.data
"""


def twin(file):
    return torch.jit.load(f"{file}_jit")


def load(manager, file):
    package = manager.load_package(file)
    return package.load_pickle("model", "model.pkl"), package.load_pickle("model", "example.pkl")


def example_of(replicated):
    with replicated.acquire_session() as session:
        return session.self.deref()


PROGRAM = """
import torch
from runtime.interpreters import InterpreterManager

scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Linear(2, 2)))  # 25
ones = torch.ones(1, 2)
before = scripted(ones)
manager = InterpreterManager(2)  # binding: multiple
assert len(manager) == 2
for number in range(2):
    manager[number].global_("builtins", "print")("hello!", number)
conv = manager.acquire_one().global_("torch.nn", "Conv2d")(6, 2, 2, 1)  # binding: tensor passing
output = conv(torch.ones(1, 6, 6, 6)).deref()
assert type(output) is torch.Tensor and output.shape == (1, 2, 5, 5) and not output.requires_grad
assert torch.equal(scripted(ones), before)
pids = [each.pid for each in manager.interpreters]
del manager, conv  # 2
manager = InterpreterManager(1)
print_ = manager.acquire_one().global_("builtins", "print")  # binding: print
print_("hello!")
assert len(manager.registered_module_sources) == 1  # 1
assert torch.equal(scripted(ones), before)
print(*pids, *(each.pid for each in manager.interpreters), flush=True)
"""


def test_the_binding_and_managers_that_come_and_go():
    """Binding 1 to 3; 1, 2, 25. No process is left, neither of a manager that was dropped nor after the end."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-W", "ignore::FutureWarning", "-c", PROGRAM],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    *printed, pids = done.stdout.splitlines()
    assert printed == ["hello! 0", "hello! 1", "hello!"] and done.stderr == ""
    assert outlive([int(pid) for pid in pids.split()]) == []


def test_3_every_interpreter_is_another(manager):
    manager.register_module_source("check_module", "import os, torch\ncheck = os.getpid(), torch.version.interp")
    checks = [manager[number].global_("check_module", "check").deref() for number in range(3)]
    assert [number for _, number in checks] == [0, 1, 2]
    assert len({pid for pid, _ in checks}) == 3


def test_4_the_simple_model(manager, packages):
    model, example = load(manager, packages / "simple")
    given = example_of(example)
    close(model(*given), twin(packages / "simple")(*given))


def test_5_resnet(manager, resnet):
    model, example = load(manager, resnet)
    given = example_of(example)
    assert given[0].shape == RESNET_SHAPE
    close(model(*given), twin(resnet)(*given))


def test_6_a_movable_outlives_its_session(manager):
    with manager[0] as session:
        movable = manager.create_movable(session.global_("torch.nn", "Module")(), session)
    with movable.acquire_session() as session:
        assert session.self.hasattr("forward")


def test_7_and_8_serial_calls_and_kwargs_are_exactly_equal(manager, packages):
    model, _ = load(manager, packages / "simple")
    ones = torch.ones(10, 20)
    expected = twin(packages / "simple")(ones)
    for _ in range(3):
        assert torch.equal(model(ones), expected)
    assert torch.equal(model.call_kwargs([ones], {}), expected)
    assert torch.equal(model.call_kwargs(kwargs={"input": ones}), expected)
    assert torch.equal(model(input=ones), expected)


def test_9_hasattr(manager, packages):
    model, _ = load(manager, packages / "simple")
    assert model.hasattr("forward") and not model.hasattr("make_prediction")


def test_10_three_threads(manager, packages):
    model, _ = load(manager, packages / "simple")
    jit = twin(packages / "simple")

    def calls(seed):
        inputs = torch.rand(100, 10, 20, generator=torch.Generator().manual_seed(seed))
        return all(torch.equal(model(each), jit(each)) for each in inputs)

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(calls, range(3)))
        shared = torch.ones(10, 20)
        assert all(torch.equal(each, jit(shared)) for each in threads.map(model, [shared] * 3))


def test_threads_that_share_an_interpreter_wait_for_each_other(manager):
    echo = manager[0].global_("builtins", "str")
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(lambda number: echo(number).deref(), range(150))) == [*map(str, range(150))]


@pytest.mark.parametrize("other", [0, 1])
def test_11_the_wrong_session(manager, other):
    first, second = manager[0], manager[other]
    taken = first.global_("torch.nn", "Module")()
    assert first.is_owner(taken) and not second.is_owner(taken)
    with pytest.raises(
        InterpreterError, match="Cannot create movable from an object that lives in different session"
    ):
        manager.create_movable(taken, second)


def test_12_and_13_errors_leave_the_manager_usable(manager, packages):
    package = manager.load_package(packages / "simple")
    with pytest.raises(InterpreterError, match="some other"):
        package.load_pickle("some other", "garbage path")
    model = package.load_pickle("model", "model.pkl")
    with pytest.raises(InterpreterError, match=r"(?s)TypeError.*Traceback.*in forward.*self\.weight \+ input"):
        model("unexpected input")
    ones = torch.ones(10, 20)
    assert torch.equal(model(ones), twin(packages / "simple")(ones))


@pytest.mark.parametrize("names", [("simple", "simple"), ("simple", "other")])
def test_14_and_15_two_sessions_of_packages_at_once(manager, packages, names):
    manager.debug_limit(1)
    try:
        opened = {name: manager.load_package(packages / name) for name in set(names)}
        sessions = [opened[name].acquire_session() for name in names]
        models = [each.self.load_pickle("model", "model.pkl") for each in sessions]
        outputs = [model(torch.ones(10, 20)).deref() for model in models]
        assert {each.interpreter.number for each in sessions} == {0}
        assert [torch.equal(output, outputs[0]) for output in outputs] == [True, names[0] == names[1]]
    finally:
        manager.debug_limit(3)


def test_19_a_module_source(manager):
    manager.register_module_source("add_module", "def add1(x): return x + 1")
    for number in range(3):
        assert manager[number].global_("add_module", "add1")(2).deref() == 3
    assert "add_module" in manager.registered_module_sources


def test_20_one_storage(manager):
    a, b = manager[0], manager[1]
    ones = a.global_("torch", "ones")(2, 2)
    view = ones.view(4)
    moved = manager.create_movable(ones, a).to_obj(b)
    assert moved.deref().tolist() == [[1, 1], [1, 1]]
    moved.fill_(5)
    assert ones.deref().tolist() == [[5, 5], [5, 5]] and view.deref().tolist() == [5] * 4
    view.mul_(2)
    assert moved.deref().tolist() == [[10, 10], [10, 10]]


def test_21_and_27_what_a_package_asserts_when_it_is_imported(manager, tmp_path):
    file = write_source(tmp_path / "p", "import torch.distributed\nassert torch.distributed.is_available()\nx = 1")
    with manager.load_package(file).acquire_session() as session:
        assert session.self.import_module("m").x.deref() == 1
    if not torch.cuda.is_available():
        pytest.skip("27 needs a GPU")
    file = write_source(tmp_path / "gpu", "import torch\nassert torch.cuda.is_available()\nx = 1")
    with manager.load_package(file).acquire_session() as session:
        assert session.self.import_module("m").x.deref() == 1


AUTOGRAD = """
import torch
torch.manual_seed(0)
x = torch.rand(100, 100, requires_grad=True)
(x @ x).relu().sum().backward()
grad = x.grad
"""


def test_22_autograd_in_two_interpreters(manager):
    manager.register_module_source("autograd_module", AUTOGRAD)
    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(
            lambda number: manager[number].global_("autograd_module", "grad").deref(), (0, 1)
        )
    assert torch.equal(first, second) and first.abs().sum() > 0


def test_23_numpy(manager):
    session = manager.acquire_one()
    rand = session.global_("numpy", "random").rand
    product = session.global_("numpy", "matmul")(rand(3, 5), rand(5, 8))
    shape = product.shape
    assert session.global_("builtins", "len")(shape).deref() == 2
    assert [shape[0].deref(), shape[1].deref()] == [3, 8]
    assert isinstance(product.deref(), np.ndarray) and product.deref().shape == (3, 8)


def test_24_yaml(manager):
    pytest.importorskip("yaml")
    session = manager.acquire_one()
    document = session.global_("yaml", "full_load")("a: 1\n")
    assert document["a"].deref() == 1
    assert session.global_("yaml", "dump")(document).deref() == "a: 1\n"


def test_26_a_model_on_a_gpu(manager, packages):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    model, example = load(manager, packages / "simple")
    given = [each.cuda() for each in example_of(example)]
    with model.acquire_session() as session:
        session.self.to("cuda")
        output = session.self(*given).deref()
    assert output.is_cuda
    close(output, twin(packages / "simple").cuda()(*given))


def test_28_a_traced_graph_module(manager, packages, tmp_path):
    from torch.fx import symbolic_trace

    from tests.runtime.interpreters.conftest import write
    from tests.runtime.interpreters.networks import Simple

    write(tmp_path, "traced", symbolic_trace(Simple(10, 20)), (torch.ones(10, 20),))
    model, _ = load(manager, tmp_path / "traced")
    ones = torch.ones(10, 20)
    assert torch.equal(model(ones), twin(tmp_path / "traced")(ones))


def test_29_text_and_binary(manager, packages):
    package = manager.load_package(packages / "simple")
    assert package.load_text("extra_files", "text") == "hello"
    assert package.load_binary("extra_files", "binary") == b"hello"


def test_31_imports(manager):
    load_module = manager.acquire_one().global_("builtins", "__import__")
    for name in IMPORTS.split():
        load_module(name)


def test_the_other_models_of_the_suite(manager, packages):
    batched, _ = load(manager, packages / "batched")
    a, b = torch.arange(3.0), torch.ones(3)
    assert [each.tolist() for each in batched(a, b)] == [[0, -1, -2], [-1, -1, -1]]
    with batched.acquire_session() as session:
        assert session.self.make_batch([1, 2, 3], {"max_bs": "2"}).deref() == [[1, 2], [3]]
        (pair,) = session.self.make_prediction([(a, b)]).deref()
        assert torch.equal(pair[0], -a)
    multi, _ = load(manager, packages / "multi_return")
    (first, second), swapped = multi((a, b))
    assert torch.equal(first, a) and torch.equal(second, b) and torch.equal(swapped[0], b)


def test_the_example_of_the_documentation_a_function_that_moves(manager):
    manager.register_module_source("moving_module", "def f(x): return x * 2")
    first, second = manager[0], manager[1]
    moved = manager.create_movable(first.global_("moving_module", "f"), first).to_obj(second)
    assert moved(21).deref() == 42
