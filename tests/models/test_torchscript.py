"""The TorchScript engine, against eager torch on the same pixels."""

from __future__ import annotations

import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import convert_image_dtype, normalize

from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec, PreprocessSpec
from models.engines import ENGINES, load_engine
from models.engines.base import EngineOptions
from models.engines.torch_engine import TorchEngine
from models.errors import EngineError
from models.images.preprocess import Preprocessor
from models.networks.architectures import build_network, load_weights
from models.networks.graph import build_graph, compile_graph, jit_warnings_ignored

PREPROCESS = PreprocessSpec(72, 64, "bilinear", (0.48, 0.45, 0.40), (0.22, 0.22, 0.23))
OPTIONS = EngineOptions(device="cpu", max_batch_size=8)
ARCHITECTURE = "shufflenet_v2_x0_5"
ROOT = Path(__file__).parents[2]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device at hand")


@functools.cache
def network():
    """Random weights, but a last layer that is scaled so that the images below get clearly different answers."""
    torch.manual_seed(0)
    built = build_network(ARCHITECTURE, 7)
    with torch.inference_mode():
        logits = built(normalised(pixels(32, seed=99)))
        spread = logits.std(0)
        built.fc.weight *= 3 / spread[:, None]
        built.fc.bias.copy_((built.fc.bias - logits.mean(0)) * 3 / spread)
    return built


def normalised(pixels):
    """As torchvision does it. pixels: uint8 [N, 64, 64, 3]; returns float32 [N, 3, 64, 64]."""
    images = convert_image_dtype(torch.from_numpy(pixels).permute(0, 3, 1, 2), torch.float32)
    return normalize(images, PREPROCESS.mean, PREPROCESS.std)


def reference(pixels):
    """Eager fp32. pixels: uint8 [N, 64, 64, 3]."""
    with torch.inference_mode():
        return network()(normalised(pixels)).softmax(1).numpy()


def pixels(count, seed=0):
    """Noise of different colours and contrasts: uint8 [count, 64, 64, 3]."""
    choose = np.random.default_rng(seed)
    colour, contrast = choose.uniform(0, 255, (count, 1, 1, 3)), choose.uniform(0, 90, (count, 1, 1, 1))
    return (colour + contrast * choose.standard_normal((count, 64, 64, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    save_file(network().state_dict(), folder / "model.safetensors")
    engine = EngineSpec("torchscript", "model.safetensors", "")
    spec = ModelSpec("small", ARCHITECTURE, 7, "labels.json", PREPROCESS, engine)
    return ModelBundle.write(folder, spec, tuple("abcdefg"))


@pytest.fixture(scope="module")
def engine(bundle):
    return load_engine(bundle, OPTIONS)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_equals_eager_at_every_batch_size(engine, size):
    got = engine.infer(pixels(size))
    assert got.dtype == np.float32
    assert got == pytest.approx(reference(pixels(size)), abs=1e-4)
    assert got.sum(1) == pytest.approx(np.ones(size), abs=1e-5)


def test_a_sequence_of_images_is_as_good_as_an_array(engine):
    assert np.array_equal(engine.infer(list(pixels(3))), engine.infer(pixels(3)))


def test_an_answer_is_not_overwritten_by_the_next_batch(engine):
    first = engine.infer(pixels(4))
    copy = first.copy()
    engine.infer(pixels(4, seed=1))
    assert np.array_equal(first, copy)


def test_a_images_answer_does_not_depend_on_its_neighbours(engine):
    alone = engine.infer(pixels(1))
    among = engine.infer(np.concatenate([pixels(7, seed=5), pixels(1)]))
    assert among[-1] == pytest.approx(alone[0], abs=1e-5)


@pytest.mark.parametrize("size", [0, 9])
def test_a_batch_of_the_wrong_size_is_refused(engine, size):
    with pytest.raises(ValueError, match="expected 1 to 8"):
        engine.infer(pixels(size))


def test_what_runs_is_told(engine):
    assert (engine.spec.device, engine.spec.precision, engine.spec.max_batch_size) == ("cpu", "fp32", 8)
    assert engine.num_classes == 7


def test_warm_up_and_close(bundle):
    engine = load_engine(
        bundle, EngineOptions(device="cpu", max_batch_size=4, intra_op_threads=torch.get_num_threads())
    )
    engine.warm_up()
    engine.close()


@pytest.mark.parametrize(("largest", "sizes"), [(1, {1}), (32, {1, 2})])
def test_a_start_on_a_cpu_does_not_wait_for_large_batches(largest, sizes):
    ran = []

    def graph(images):
        ran.append(len(images))
        return torch.zeros(len(images), 7)

    TorchEngine(graph, EngineSpec("torchscript", "x", "", device="cpu", max_batch_size=largest), 8, 7).warm_up()
    assert ran == sorted(ran) and set(ran) == sizes
    assert ran.count(1) >= 2, "TorchScript optimises in its second run"


@pytest.mark.parametrize(("precision", "tolerance"), [("fp16", 0.02), ("bf16", 0.15)])
def test_the_half_precision_graph_on_a_cpu(precision, tolerance):
    """What CUDA serves, but for the device: half weights, fp32 normalisation and softmax; trained weights."""
    demo = ModelBundle.load(ROOT / "models" / "demo")
    preprocess, side = demo.spec.preprocess, demo.spec.preprocess.crop_size
    trained = load_weights(build_network(demo.spec.architecture, 10), load_file(demo.file))
    graph = build_graph(trained, preprocess, precision, torch.device("cpu"), channels_last=True)
    module = compile_graph(graph, torch.zeros(2, side, side, 3, dtype=torch.uint8))
    spec = EngineSpec("torchscript", "x", "", precision=precision, device="cpu", max_batch_size=16)
    images = [Preprocessor(preprocess)(file.read_bytes()) for file in sorted((ROOT / "images").glob("digit-*"))]
    got = TorchEngine(module, spec, side, 10).infer(images)
    wanted = load_engine(demo, dataclasses.replace(OPTIONS, max_batch_size=16)).infer(images)
    assert got == pytest.approx(wanted, abs=tolerance)
    assert np.array_equal(got.argmax(1), wanted.argmax(1))
    assert len(set(wanted.argmax(1))) >= 9


@needs_cuda
def test_cuda_serves_half_precision_channels_last():
    bundle = ModelBundle.load(ROOT / "models/demo")  # the scaled weights above leave FP16's range
    engine = load_engine(bundle, dataclasses.replace(OPTIONS, device="cuda"))
    assert (engine.spec.device, engine.spec.precision) == ("cuda", "fp16")
    engine.warm_up()
    on_cpu = load_engine(bundle, OPTIONS)
    for size in (1, 3, 8):
        images = np.random.default_rng(size).integers(0, 256, (size, 96, 96, 3), np.uint8)
        assert engine.infer(images) == pytest.approx(on_cpu.infer(images), abs=0.02)
    engine.close()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_one_clear_line(bundle):
    with pytest.raises(EngineError, match="'cuda' is not available"):
        load_engine(bundle, dataclasses.replace(OPTIONS, device="cuda"))


def test_a_graph_built_for_another_device_is_refused(bundle):
    spec = dataclasses.replace(bundle.spec, engine=dataclasses.replace(bundle.spec.engine, device="cuda"))
    with pytest.raises(EngineError, match="built for device 'cuda', not for 'cpu'"):
        load_engine(dataclasses.replace(bundle, spec=spec), OPTIONS)


def test_weights_of_another_architecture_are_refused(bundle):
    spec = dataclasses.replace(bundle.spec, architecture="shufflenet_v2_x1_0")
    with pytest.raises(EngineError, match=r"model\.safetensors: \d+ tensors do not fit"):
        load_engine(dataclasses.replace(bundle, spec=spec), OPTIONS)


def test_an_unknown_kind_and_a_missing_package(bundle, monkeypatch):
    spec = dataclasses.replace(bundle.spec, engine=dataclasses.replace(bundle.spec.engine, kind="magic"))
    unknown = dataclasses.replace(bundle, spec=spec)
    with pytest.raises(EngineError, match="'magic' must be one of torchscript"):
        load_engine(unknown, OPTIONS)
    monkeypatch.setitem(ENGINES, "magic", "a_package_that_is_not_there")
    with pytest.raises(EngineError, match="needs the package a_package_that_is_not_there"):
        load_engine(unknown, OPTIONS)


def test_a_graph_with_another_output_is_refused(bundle, tmp_path):
    graph = build_graph(
        build_network(ARCHITECTURE, 9), PREPROCESS, "fp32", torch.device("cpu"), channels_last=True
    )
    torch.jit.save(compile_graph(graph, torch.zeros(2, 64, 64, 3, dtype=torch.uint8)), tmp_path / "model.ts")
    engine = EngineSpec("torchscript", "model.ts", "", device="cpu")
    spec = dataclasses.replace(bundle.spec, engine=engine)
    with pytest.raises(EngineError, match=r"has shape \[1, 9\], expected \[1, 7\]"):
        load_engine(ModelBundle.write(tmp_path, spec, bundle.labels), OPTIONS)


def test_torchvision_is_imported_only_for_a_file_that_has_its_operators(tmp_path):
    """Importing it takes longer than importing torch, and a worker that is replaced is to be back soon."""

    class WithOperator(torch.nn.Module):
        def forward(self, boxes):
            return torch.ops.torchvision.nms(boxes, boxes[:, 0], 0.5)

    with jit_warnings_ignored():
        torch.jit.script(torch.nn.ReLU()).save(tmp_path / "plain.pt")
        torch.jit.script(WithOperator()).save(tmp_path / "with-operator.pt")
    code = (
        "import sys; from pathlib import Path; from models.engines.torchscript import load_module\n"
        "for file in sys.argv[1:]:\n    load_module(Path(file), 'cpu'); print('torchvision' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "plain.pt"), str(tmp_path / "with-operator.pt")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["False", "True"], done.stderr
