"""The CUDA graph engine: its order of copies and runs on a simulated device, the rest where there is a card."""

from __future__ import annotations

import dataclasses
import functools
import gc
import pickle
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec
from models.engines import cuda_graphs, load_engine
from models.engines.base import EngineOptions
from models.engines.cuda_device import CudaDevice
from models.engines.graph_engine import GraphEngine
from models.engines.torch_compile import load as load_compiled
from models.engines.torchscript import load_module
from models.errors import EngineError
from models.images.preprocess import Preprocessor
from models.networks.architectures import build_network, load_weights
from models.optimize.candidates import CANDIDATES, Job, cuda
from tests.conftest import ROOT
from tests.models.simulation import SimulatedDevice

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")
SIDE, CLASSES = 4, 6  # of the tiny module
HALF = 0.02  # what half precision may change of a probability


class Digest(torch.nn.Module):
    """A row is a sum that tells which image it is of."""

    weight = torch.arange(1.0, SIDE * SIDE * 3 + 1)

    def forward(self, images):
        sums = (images.flatten(1) * self.weight).sum(1, keepdim=True)
        return sums + torch.arange(float(CLASSES))


def tiny(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def expected(images):
    return Digest()(torch.from_numpy(np.asarray(images))).numpy()


def simulated(max_batch_size=16, largest_piece=4, seed=0, module=None, **more):
    spec = EngineSpec("cuda-graphs", "x", "", precision="fp16", device="cuda", max_batch_size=max_batch_size)
    device = SimulatedDevice(seed)
    return GraphEngine(device, module or Digest(), spec, SIDE, CLASSES, largest_piece, **more), device


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 19), min_size=1, max_size=6),
    largest=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_every_image_gets_its_own_answer_whatever_the_order_of_the_streams(sizes, largest, seed):
    """Padding, pieces, two slots, and buffers that are used again, under orders drawn by chance."""
    engine, _ = simulated(19, largest, seed)
    answers = [engine.infer(tiny(size, number)) for number, size in enumerate(sizes)]
    for number, size in enumerate(sizes):  # compared at the end: no answer may change later
        assert np.array_equal(answers[number], expected(tiny(size, number)))


def test_two_pieces_are_in_flight_and_no_more():
    engine, device = simulated(16, 4)
    most = 0
    begin = type(engine._slots[0]).begin

    def counted(slot, batch):
        nonlocal most
        begin(slot, batch)
        most = max(most, 2 - engine._free.qsize())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(engine._slots[0]), "begin", counted)
        engine.infer(tiny(16))
    assert most == 2
    assert engine._free.qsize() == 2
    assert not any(stream.jobs for stream in device.streams)


def test_one_graph_per_bucket_and_slot_the_largest_first():
    engine, device = simulated(256, 24)
    assert engine.buckets == (1, 2, 4, 8, 16, 24)
    assert len(device.captured) == 12
    assert list(engine._slots[0]._graphs) == [24, 16, 8, 4, 2, 1]
    assert simulated(3, 24)[0].buckets == (1, 2, 3)
    assert simulated(256, 64, bucket_factor=4)[0].buckets == (1, 4, 16, 64)


@pytest.mark.parametrize("seed", range(5))
def test_two_threads_may_ask_at_once(seed):
    engine, _ = simulated(16, 2, seed)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda number: engine.infer(tiny(1 + number % 16, number)), range(60)))
    for number, answer in enumerate(answers):
        assert np.array_equal(answer, expected(tiny(1 + number % 16, number)))


@pytest.mark.parametrize("pieces", [1, 2, 4])
def test_a_batch_that_fails_leaves_the_engine_as_it_was(pieces):
    engine, device = simulated(16, 4)
    broken = [*tiny(4 * pieces - 1), np.zeros((2, 2, 2), np.uint8)]
    for _ in range(10):
        with pytest.raises(ValueError, match="could not broadcast"):
            engine.infer(broken)
        assert not any(stream.jobs for stream in device.streams)  # nothing reads the buffers any more
    assert np.array_equal(engine.infer(tiny(16)), expected(tiny(16)))


def test_a_device_that_fails_fails_the_batch_and_nobody_waits_for_a_slot():
    engine, device = simulated(16, 4)

    def fail(*_):
        raise RuntimeError("an illegal memory access was encountered")

    for name in ("launch", "synchronize"):
        setattr(device, name, fail)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="illegal memory access"):
            engine.infer(tiny(16))


@pytest.mark.parametrize("size", [0, 17])
def test_a_batch_of_the_wrong_size_is_refused(size):
    engine, _ = simulated(16, 4)
    with pytest.raises(ValueError, match="expected 1 to 16"):
        engine.infer(tiny(size))


def test_a_list_of_images_is_as_good_as_an_array():
    engine, _ = simulated()
    assert np.array_equal(engine.infer(list(tiny(7))), engine.infer(tiny(7)))


def test_the_weights_live_as_long_as_the_engine():
    """A graph knows addresses: nothing else would keep what lies there."""
    module = Digest()
    kept = weakref.ref(module)
    engine, device = simulated(module=module)
    device.captured.clear()
    for slot in engine._slots:
        slot._graphs.clear()
    del module
    gc.collect()
    assert kept() is not None
    engine.close()
    gc.collect()
    assert kept() is None
    assert device.freed


def test_warm_up_goes_through_every_bucket_and_the_largest_batch(monkeypatch):
    engine, _ = simulated(10, 4)
    sizes = []
    infer = engine.infer
    monkeypatch.setattr(engine, "infer", lambda batch: sizes.append(len(batch)) or infer(batch))
    engine.warm_up()
    assert sorted(set(sizes)) == [1, 2, 4, 10]


def test_a_run_without_copies_is_asked_of_every_piece():
    engine, device = simulated(16, 4)
    stream = device.stream()
    launched = []
    device.launch = lambda graph, _: launched.append(graph)
    engine.launch(11, stream)
    first, second = (slot._graphs for slot in engine._slots)
    assert launched == [first[4], second[4], first[4]]


def test_the_calls_to_torch_fit_its_signatures(monkeypatch):
    """All that can be said of CUDA's own calls without a card: names, arguments, and the order of a capture."""
    calls = mock.Mock()
    for name in (
        "Stream",
        "Event",
        "CUDAGraph",
        "graph",
        "stream",
        "synchronize",
        "graph_pool_handle",
        "empty_cache",
    ):
        double = mock.create_autospec(getattr(torch.cuda, name))
        for context in (double.return_value,) if name in ("graph", "stream") else ():
            context.__enter__, context.__exit__ = mock.Mock(), mock.Mock(return_value=None)
        calls.attach_mock(double, name)
        monkeypatch.setattr(torch.cuda, name, double)
    device, modes = CudaDevice(), []

    def run():
        calls.run()
        modes.append(torch.is_grad_enabled() or torch.is_inference_mode_enabled())

    graph, target = device.capture(run), mock.create_autospec(torch.Tensor, instance=True)
    order = [call[0] for call in calls.mock_calls if call[0] in ("run", "graph", "synchronize")]
    assert order == ["synchronize", "run", "run", "run", "run", "graph", "run"]
    assert not any(modes)
    device.event()
    device.launch(graph, device.stream())
    graph.replay.assert_called_once_with()
    device.copy(target, torch.zeros(1), device.stream())
    assert target.copy_.call_args.kwargs == {"non_blocking": True}
    device.synchronize()
    device.free()


@functools.cache
def demo():
    """The digits: trained weights, which half precision does not drive out of its range."""
    return ModelBundle.load(ROOT / "models" / "demo")


@functools.cache
def digits():
    """As the demo prepares them: uint8 [10, 96, 96, 3]."""
    prepare = Preprocessor(demo().spec.preprocess)
    return np.stack([prepare(file.read_bytes()) for file in sorted((ROOT / "images").glob("digit-*"))])


def pixels(count, seed=0):
    """Digits, shifted and shaded: uint8 [count, 96, 96, 3]."""
    choose = np.random.default_rng(seed)
    shifted = [np.roll(digits()[n % 10], choose.integers(-9, 10, 2), (0, 1)) for n in range(count)]
    shade = choose.uniform(0.5, 1, (count, 1, 1, 1))
    return (np.stack(shifted) * shade).astype(np.uint8)


def reference(images):
    """Eager fp32 on a CPU."""
    options = EngineOptions(device="cpu", max_batch_size=len(images))
    return load_engine(with_kind(demo(), "eager"), options).infer(images)


def with_kind(bundle, kind):
    engine = dataclasses.replace(bundle.spec.engine, kind=kind)
    return dataclasses.replace(bundle, spec=dataclasses.replace(bundle.spec, engine=engine))


def test_a_capture_that_breaks_off_is_told_with_what_broke_it(monkeypatch):
    """torch's context of a capture raises at its end, whatever was raised within it."""

    def break_off(*_):
        try:
            raise ValueError("the operator waits for the device\nand so on")
        finally:
            raise RuntimeError("operation failed due to a previous error during capture")

    monkeypatch.setattr(cuda_graphs, "CudaDevice", SimulatedDevice)
    monkeypatch.setattr(cuda_graphs, "GraphEngine", break_off)
    spec = dataclasses.replace(demo().spec.engine, device="cpu")
    message = (
        r"cannot be recorded as CUDA graphs \(RuntimeError: operation failed due to a previous error"
        r" during capture; "
        r"before it ValueError: the operator waits for the device\)$"
    )
    with pytest.raises(EngineError, match=message):
        cuda_graphs.record(lambda images: torch.zeros(len(images), 10), demo(), spec)


@pytest.mark.parametrize("kind", ["cuda-graphs", "torch-compile"])
def test_a_cpu_is_refused_in_one_line(kind):
    with pytest.raises(EngineError, match=f"engine '{kind}' needs device 'cuda'$"):
        load_engine(with_kind(demo(), kind), EngineOptions(device="cpu"))


def test_the_candidates_of_a_card():
    """Registered, not run without one, and each with a file that no other candidate of a bundle has."""
    on_card = {each.name: each for each in CANDIDATES if each.device == "cuda"}
    assert set(on_card) == {"torchscript-fp16", "eager-fp16", "cuda-graphs-fp16", "compile-fp16"}
    assert [name for name, each in on_card.items() if each.servable] == ["torchscript-fp16", "cuda-graphs-fp16"]
    assert on_card["compile-fp16"].is_optional
    assert all(each.runs_here() == torch.cuda.is_available() for each in on_card.values())
    assert all(pickle.loads(pickle.dumps(each)).name == name for name, each in on_card.items())


def job():
    trained = load_weights(build_network(demo().spec.architecture, 10), load_file(demo().file))
    return Job(trained, demo().spec.preprocess, (8,))


def test_the_graph_of_the_candidate_runs_and_has_a_name_of_its_own(tmp_path):
    """All but the device: built for a CPU, replayed on the simulated device, against eager fp32."""
    spec = cuda.build_graphs(job(), tmp_path, device="cpu")
    assert [file.name for file in tmp_path.iterdir()] == ["cuda-graphs-fp16.ts"] == [spec.file]
    assert (spec.kind, spec.precision, spec.max_batch_size) == ("cuda-graphs", "fp16", 8)
    module = load_module(tmp_path / spec.file, "cpu")
    engine = GraphEngine(SimulatedDevice(), module, spec, 96, 10, 4)
    for size in (1, 3, 8):
        assert engine.infer(pixels(size)) == pytest.approx(reference(pixels(size)), abs=HALF)


@pytest.mark.parametrize(("candidate", "kind"), [(cuda.EAGER, "eager"), (cuda.COMPILE, "torch-compile")])
def test_the_weights_of_the_candidates(tmp_path, candidate, kind):
    spec = candidate.build(job(), tmp_path)
    assert (spec.kind, spec.device, spec.precision, spec.holds_weights) == (kind, "cuda", "fp16", True)


@pytest.fixture(scope="module")
def on_card():
    """TorchScript and CUDA graphs in FP16, for up to 150 images: four pieces of 32 and one that is padded."""
    options = EngineOptions(device="cuda", max_batch_size=150)
    engines = [load_engine(with_kind(demo(), kind), options) for kind in ("torchscript", "cuda-graphs")]
    yield engines
    for engine in engines:
        engine.close()


@needs_cuda
def test_on_a_card_every_size_equals_torchscript(on_card):
    plain, graphs = on_card
    assert (graphs.spec.device, graphs.spec.precision) == ("cuda", "fp16")
    assert graphs.buckets == (1, 2, 4, 8, 16, 32)
    images = pixels(150)
    wanted = reference(images)
    graphs.infer(pixels(150, seed=1))  # what lies in the padding
    for size in range(1, 151):
        answer = graphs.infer(images[:size])
        assert answer == pytest.approx(wanted[:size], abs=HALF), size
    for size in (1, 5, 64, 150):
        assert graphs.infer(images[:size]) == pytest.approx(plain.infer(images[:size]), abs=HALF)


@needs_cuda
def test_on_a_card_the_padding_does_not_matter(on_card):
    _, graphs = on_card
    graphs.infer(pixels(150, seed=2))
    first = graphs.infer(pixels(37))
    graphs.infer(np.full((150, 96, 96, 3), 255, np.uint8))
    assert np.array_equal(graphs.infer(pixels(37)), first)


@needs_cuda
def test_on_a_card_answers_belong_to_the_caller(on_card):
    _, graphs = on_card
    first = graphs.infer(pixels(100))
    copy = first.copy()
    graphs.infer(pixels(100, seed=3))
    assert np.array_equal(first, copy)


@needs_cuda
def test_on_a_card_two_threads_may_ask_at_once(on_card):
    _, graphs = on_card
    alone = {number: graphs.infer(pixels(1 + 7 * number, seed=number)) for number in range(20)}
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            asked = pool.map(lambda number: graphs.infer(pixels(1 + 7 * number, seed=number)), alone)
            for number, answer in enumerate(asked):
                assert answer == pytest.approx(alone[number], abs=1e-5), number


@needs_cuda
def test_on_a_card_a_second_model_may_be_recorded_while_the_first_serves(on_card):
    _, graphs = on_card
    stop, failures = threading.Event(), []

    def serve():
        while not stop.is_set():
            try:
                graphs.infer(pixels(9))
            except RuntimeError as error:
                failures.append(error)
                return

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        load_engine(with_kind(demo(), "cuda-graphs"), EngineOptions(device="cuda", max_batch_size=8)).close()
    finally:
        stop.set()
        thread.join()
    assert not failures


@needs_cuda
def test_on_a_card_closing_gives_the_memory_back():
    """The graphs' pool and the buffers; cuBLAS keeps its workspace of a stream."""
    engine = load_engine(with_kind(demo(), "cuda-graphs"), EngineOptions(device="cuda", max_batch_size=64))
    engine.warm_up()
    pool, before = tuple(engine._device._pool), torch.cuda.memory_allocated()

    def segments():
        return [each for each in torch.cuda.memory_snapshot() if tuple(each["segment_pool_id"]) == pool]

    assert segments()
    engine.close()
    assert not segments()
    assert before - torch.cuda.memory_allocated() >= 2 * 32 * 96 * 96 * 3


@needs_cuda
def test_on_a_card_a_graph_that_waits_for_the_device_is_refused(tmp_path):
    class Branching(torch.nn.Module):
        def forward(self, images):
            scores = images.float().mean((1, 2)).repeat(1, 3)[:, :7]
            return scores if bool(scores.sum() > 0) else -scores

    torch.jit.save(torch.jit.script(Branching()), tmp_path / "model.ts")
    engine = EngineSpec("cuda-graphs", "model.ts", "", device="cuda", precision="fp16")
    spec = ModelSpec("branching", "none", 7, "labels.json", demo().spec.preprocess, engine)
    with pytest.raises(EngineError, match="cannot be recorded as CUDA graphs"):
        load_engine(ModelBundle.write(tmp_path, spec, tuple("abcdefg")), EngineOptions(device="cuda"))
    assert float(torch.ones(1, device="cuda")) == 1  # the device is usable


@needs_cuda
def test_on_a_card_eager_is_half_precision():
    engine = load_engine(with_kind(demo(), "eager"), EngineOptions(device="cuda", max_batch_size=8))
    assert (engine.spec.precision, engine.spec.memory_format) == ("fp16", "channels_last")
    assert engine.infer(pixels(5)) == pytest.approx(reference(pixels(5)), abs=HALF)
    engine.close()


@needs_cuda
@pytest.mark.timeout(600)
def test_on_a_card_the_compiled_network_answers_alike(monkeypatch):
    monkeypatch.setattr("models.engines.torch_compile.MODE", "default")  # the best kernels take minutes to find
    compiled = load_compiled(with_kind(demo(), "torch-compile"), EngineOptions(device="cuda", max_batch_size=20))
    assert compiled.buckets == (1, 4, 16, 20)
    for size in (1, 3, 20):
        assert compiled.infer(pixels(size)) == pytest.approx(reference(pixels(size)), abs=HALF)
    compiled.close()
