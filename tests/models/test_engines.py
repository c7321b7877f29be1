"""Engines of every kind: loaded from a bundle's files, they answer like the network."""

import dataclasses
import shutil
import subprocess
import sys
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torchvision

from models.__main__ import main
from models.bundles.bundle import ModelBundle
from models.engines import load_engine
from models.engines import torchscript as torchscript_engine
from models.engines.base import EngineOptions
from models.engines.torchscript import load_module
from models.errors import BundleError, EngineError, ModelError
from models.optimize.candidates import Job, aotinductor, eager, fx, openvino, published, torchscript
from models.optimize.contestant import Contestant, Setting
from models.optimize.isolation import isolated
from models.optimize.weights import PublishedInt8
from tests.models.small import ARCHITECTURE, SPEC, random_weights

BUILDERS = {each.name: each for each in (eager.FP32, torchscript.FP32, openvino.FP32, openvino.INT8, fx.ONEDNN)}
SIDE = SPEC.crop_size
ROOT = Path(__file__).parents[2]


def images(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


def here(*arguments):
    return nullcontext(Contestant(*arguments))


class Built:
    """Bundles of one random network, one per candidate, and the network's own answers."""

    def __init__(self, folder, architecture=ARCHITECTURE):
        self.folder = folder
        self.weights = random_weights(folder, architecture)
        self.job = Job(self.weights.network(), SPEC, (8,), images(4, seed=1))

    def bundle(self, candidate, process=here):
        folder = self.folder / candidate.name
        if not folder.exists():
            folder.mkdir()
            arguments = (candidate, self.job, self.weights.architecture, self.weights.labels, folder)
            with process(*arguments) as contestant:
                contestant.build()
        return ModelBundle.load(folder)

    def expected(self, pixels):
        with torch.inference_mode():
            inputs = self.weights.reference_input(torch.from_numpy(pixels))
            return self.weights.reference_network()(inputs).softmax(dim=1).numpy()


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return Built(tmp_path_factory.mktemp("engines"))


@pytest.fixture(params=BUILDERS)
def bundle(request, built):
    return built.bundle(BUILDERS[request.param])


def test_every_batch_size_is_answered_like_the_network(bundle, built):
    engine = load_engine(bundle, EngineOptions(intra_op_threads=1, max_batch_size=5))
    engine.warm_up()
    tolerance = 0.02 if engine.spec.precision == "int8" else 1e-5
    for size in (1, 2, 5, 3):
        pixels = images(size, seed=size)
        answers = engine.infer(list(pixels))
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, built.expected(pixels), atol=tolerance)
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-5)


def test_answers_belong_to_the_caller(bundle):
    engine = load_engine(bundle, EngineOptions(intra_op_threads=1, max_batch_size=4))
    first = engine.infer(images(2, seed=1))
    kept = first.copy()
    second = engine.infer(images(2, seed=2))
    np.testing.assert_array_equal(first, kept)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("size", [0, 5])
def test_a_batch_of_the_wrong_size_is_refused(bundle, size):
    engine = load_engine(bundle, EngineOptions(intra_op_threads=1, max_batch_size=4))
    with pytest.raises(ValueError, match=f"batch of {size}, expected 1 to 4"):
        engine.infer(images(size))


def test_a_cpu_engine_is_not_loaded_for_cuda(bundle):
    with pytest.raises(EngineError, match="cuda"):
        load_engine(bundle, EngineOptions(device="cuda"))


@pytest.mark.parametrize("builder", [fx.ONEDNN, openvino.INT8], ids=lambda builder: builder.name)
def test_sizes_that_are_prepared_for_are_answered_like_others(built, builder):
    prepared = load_engine(
        built.bundle(builder), EngineOptions(intra_op_threads=1, max_batch_size=5, frequent=(3,))
    )
    other = load_engine(built.bundle(builder), EngineOptions(intra_op_threads=1, max_batch_size=6))
    for size in (5, 2, 3, 4, 1):
        pixels = images(size, seed=size)
        np.testing.assert_array_equal(prepared.infer(pixels), other.infer(pixels))


def test_each_copy_of_an_int8_graph_meets_its_own_size_first(built, monkeypatch):
    firsts = []

    def recorded(file, device):
        sizes = []
        firsts.append(sizes)
        module = load_module(file, device)
        return lambda images: sizes.append(len(images)) or module(images)

    monkeypatch.setattr(torchscript_engine, "load_module", recorded)
    engine = load_engine(
        built.bundle(fx.ONEDNN), EngineOptions(intra_op_threads=1, max_batch_size=4, frequent=(2,))
    )
    engine.infer(images(3))
    engine.infer(images(2))
    assert firsts == [[1], [2, 2], [4, 3]]


@pytest.mark.parametrize("builder", [openvino.FP32, openvino.INT8], ids=lambda builder: builder.name)
@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_streams_give_the_same_answers_in_the_same_order(built, size, builder):
    bundle = built.bundle(builder)
    engine = load_engine(bundle, EngineOptions(intra_op_threads=2, streams=2, max_batch_size=8))
    assert (engine.spec.threads, engine.spec.streams) == (2, 2)
    pixels = images(size)
    one = load_engine(bundle, EngineOptions(intra_op_threads=1, streams=1, max_batch_size=8))
    np.testing.assert_allclose(engine.infer(pixels), one.infer(pixels), atol=1e-5)


def test_every_start_with_streams_gives_the_same_int8_answers(built):
    """One graph with two streams differed by 0.02 to 0.04 in two starts of three, when its batch size was open."""
    bundle = built.bundle(openvino.INT8)
    pixels = images(8)
    options = EngineOptions(intra_op_threads=2, streams=2, max_batch_size=8)
    first, *others = [load_engine(bundle, options).infer(pixels) for _ in range(6)]
    for answers in others:
        np.testing.assert_array_equal(answers, first)


def test_there_are_never_more_streams_than_threads(built):
    bundle = built.bundle(openvino.FP32)
    assert load_engine(bundle, EngineOptions(intra_op_threads=1, streams=4)).spec.streams == 1


def test_threads_and_streams_are_the_bundles_unless_told_otherwise(built):
    bundle = built.bundle(openvino.FP32)
    spec = dataclasses.replace(bundle.spec, engine=dataclasses.replace(bundle.spec.engine, threads=2, streams=2))
    bundle = dataclasses.replace(bundle, spec=spec)
    assert load_engine(bundle, EngineOptions()).spec.streams == 2
    assert load_engine(bundle, EngineOptions(intra_op_threads=1)).spec.threads == 1


def test_each_torch_engine_keeps_its_own_threads(built):
    bundle = built.bundle(torchscript.FP32)
    one = load_engine(bundle, EngineOptions(intra_op_threads=1))
    two = load_engine(bundle, EngineOptions(intra_op_threads=2))
    seen = []
    for engine in (one, two, one):
        engine.infer(images(1))
        seen.append(torch.get_num_threads())
    torch.set_num_threads(1)
    assert seen == [1, 2, 1]


def test_both_files_of_openvino_are_checked(built, tmp_path):
    folder = shutil.copytree(built.bundle(openvino.FP32).file.parent, tmp_path / "bundle")
    weights = folder / "openvino-fp32.bin"
    weights.write_bytes(b"\1" + weights.read_bytes()[1:])
    with pytest.raises(BundleError, match=r"openvino-fp32\.bin: damaged"):
        ModelBundle.load(folder)


def test_a_graph_that_openvino_cannot_read_is_an_error_of_one_line(built, tmp_path):
    folder = shutil.copytree(built.bundle(openvino.FP32).file.parent, tmp_path / "bundle")
    (folder / "openvino-fp32.xml").write_text("<net/>")
    bundle = dataclasses.replace(built.bundle(openvino.FP32), file=folder / "openvino-fp32.xml")
    with pytest.raises(EngineError, match=r"^.*openvino-fp32\.xml: OpenVINO cannot load or run it$"):
        load_engine(bundle, EngineOptions())


def test_an_int8_graph_asks_for_the_backend_that_it_was_made_for(built):
    bundle = built.bundle(fx.ONEDNN)
    assert bundle.spec.engine.quantized_engine == "onednn"
    torch.backends.quantized.engine = "x86"
    load_engine(bundle, EngineOptions())
    assert torch.backends.quantized.engine == "onednn"
    spec = dataclasses.replace(
        bundle.spec, engine=dataclasses.replace(bundle.spec.engine, quantized_engine="abacus")
    )
    with pytest.raises(EngineError, match="int8 backend 'abacus'"):
        load_engine(dataclasses.replace(bundle, spec=spec), EngineOptions())


def test_an_int8_graph_says_nothing_on_the_terminal(built):
    folder = built.bundle(fx.ONEDNN).file.parent
    code = (
        "from pathlib import Path; from models.bundles.bundle import ModelBundle;"
        "from models.engines import load_engine;"
        "from models.engines.base import EngineOptions;"
        "from models.machine.process import prepare_process; prepare_process();"
        f"load_engine(ModelBundle.load(Path({str(folder)!r})), EngineOptions()).warm_up()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("candidate", [openvino.FP32, openvino.INT8], ids=lambda each: each.name)
def test_a_signal_after_engines_that_ended_in_another_order_is_handled(built, candidate):
    """OpenVINO leaves a thread with a signal stack that is unmapped, on processors where it sets one."""
    folder = built.bundle(candidate).file.parent
    code = (
        "import gc, os, signal; from pathlib import Path;"
        "from models.bundles.bundle import ModelBundle; from models.engines import load_engine;"
        "from models.engines.base import EngineOptions;"
        f"bundle = ModelBundle.load(Path({str(folder)!r}));"
        "first, second = (load_engine(bundle, EngineOptions()) for _ in range(2));"
        "first.close(); del first; gc.collect(); second.close(); del second; gc.collect();"
        "signal.signal(signal.SIGINT, lambda *_: print('handled'));"
        "os.kill(os.getpid(), signal.SIGINT)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


def test_a_missing_package_is_named(built, monkeypatch):
    monkeypatch.setitem(sys.modules, "openvino", None)
    monkeypatch.delitem(sys.modules, "models.engines.openvino", raising=False)
    with pytest.raises(EngineError, match="engine 'openvino' needs the package openvino"):
        load_engine(built.bundle(openvino.FP32), EngineOptions())


@pytest.mark.exhaustive
@pytest.mark.skipif(not aotinductor.has_compiler(), reason="no C++ compiler at hand")
@pytest.mark.timeout(400)  # a compiler at work
def test_aotinductor_freezes_answers_and_runs_by_hand(tmp_path, capsys):
    built = Built(tmp_path, "resnet18")
    bundle = built.bundle(aotinductor.FP32, partial(isolated, Contestant))
    engine = load_engine(bundle, EngineOptions(intra_op_threads=1, max_batch_size=8))
    for size in (1, 3, 8):
        pixels = images(size)
        np.testing.assert_allclose(engine.infer(pixels), built.expected(pixels), atol=1e-5)
    assert main(["run", str(bundle.file), "--ones", f"2,{SIDE},{SIDE},3", "--dtype", "uint8", "--head", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = built.expected(np.ones((2, SIDE, SIDE, 3), np.uint8))
    assert lines[0] == "ok"
    assert [float(word) for word in lines[1].split()] == pytest.approx(expected[0, :3].tolist(), abs=1e-5)


def test_aotinductor_that_froze_nothing_is_noticed(monkeypatch):
    for names, frozen in ((["_frozen_param141"], True), (["network.conv1.weight"], False)):
        package = SimpleNamespace(loader=SimpleNamespace(get_constant_fqns=names.copy))
        monkeypatch.setattr(aotinductor, "load_package", lambda file, package=package: package)
        assert aotinductor.is_frozen(Path("model.pt2")) == frozen


def test_published_int8_weights_answer_like_torchvisions_network(built):
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(0)
        network = torchvision.models.quantization.resnet18(weights=None, quantize=True).eval()
        torch.save(network.state_dict(), built.folder / "published.pth")
    weights = PublishedInt8("resnet18", built.folder / "published.pth", "test", 0.69, 0.7)
    job = dataclasses.replace(built.job, published=weights)
    labels = tuple(str(number) for number in range(1000))
    folder = built.folder / "published"
    folder.mkdir()
    contestant = Contestant(published.INT8, job, "resnet18", labels, folder)
    contestant.build()
    pixels = images(3)
    with torch.inference_mode():
        expected = network(built.weights.reference_input(torch.from_numpy(pixels))).softmax(dim=1).numpy()
    np.testing.assert_allclose(contestant.scores(pixels, Setting(1)), expected, atol=1e-3)


def test_without_published_weights_there_is_no_such_candidate(built):
    with pytest.raises(ModelError, match="no int8 weights of this model"):
        published.INT8.build(built.job, built.folder)
