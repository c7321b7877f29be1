import copy
import io
import struct
import warnings
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from models.bundles.bare import bare_bundle
from models.bundles.labels import load_labels
from models.bundles.settings import Settings
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.errors import BundleError, EngineError
from models.networks.graph import jit_warnings_ignored
from tests.models.small import CLASSES, SPEC, random_weights, save, traced, write_labels

PIXELS = np.random.default_rng(7).integers(0, 256, (5, 64, 64, 3), np.uint8)


class Probabilities(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x).softmax(dim=1)


class Viewing(nn.Module):
    """A recorded `view`, which refuses channels-last tensors, behind a branch that only scripting keeps."""

    def __init__(self):
        super().__init__()
        self.convolution = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4 * 62 * 62, CLASSES)

    def forward(self, x):
        if x.shape[-1] > 1000:
            x = -x
        return self.head(self.convolution(x).view(x.shape[0], -1))


def scripted(network):
    with jit_warnings_ignored():
        return torch.jit.script(network.eval())


def frozen(module):
    with jit_warnings_ignored(), torch.inference_mode():
        return torch.jit.freeze(module)


def quantised(network):
    """FX post-training int8, as people have it from before torch 2.11."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    example = torch.rand(2, 3, 64, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = prepare_fx(network, get_default_qconfig_mapping("onednn"), (example,))
        prepared(example)
        return traced(convert_fx(prepared))


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    return random_weights(tmp_path_factory.mktemp("weights")).network()


@pytest.fixture(scope="module")
def file(network, tmp_path_factory):
    return save(traced(network), tmp_path_factory.mktemp("bare") / "model.pt")


def bundle_of(file, folder, labels=CLASSES):
    return bare_bundle(file, Settings(load_labels(write_labels(folder, labels)), SPEC))


def reference(module, dtype=torch.float32):
    """Probabilities of the module by itself, on pixels that torchvision would have normalised so."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (SPEC.mean, SPEC.std))
    inputs = (torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255 - mean) / std
    with torch.inference_mode():
        return module(inputs.contiguous().to(dtype)).float()


def modules(network):
    half = copy.deepcopy(network).half()
    return {
        "traced": (traced(network), 1e-6),
        "scripted": (scripted(network), 1e-6),
        "frozen": (frozen(traced(network)), 1e-6),
        "viewing": (scripted(Viewing()), 1e-6),
        "half": (traced(half, dtype=torch.float16), 1e-3),
        "frozen half": (frozen(traced(half, dtype=torch.float16)), 1e-3),
    }


def test_every_kind_of_file_answers_like_itself_in_python(network, tmp_path):
    for name, (module, tolerance) in modules(network).items():
        engine = load_engine(bundle_of(save(module, tmp_path / "model.pt"), tmp_path), EngineOptions("cpu"))
        dtype = torch.float16 if "half" in name else torch.float32
        expected = reference(module, dtype).softmax(dim=1)
        for size in (1, 5):
            answers = engine.infer(PIXELS[:size])
            np.testing.assert_allclose(answers, expected[:size], atol=tolerance, err_msg=name)


@pytest.mark.filterwarnings("ignore:.*quantized.*:FutureWarning", "ignore:.*quantized.*:UserWarning")
def test_a_quantised_file_answers_like_itself_in_python(network, tmp_path):
    before = torch.backends.quantized.engine
    torch.backends.quantized.engine = "onednn"
    try:
        module = quantised(network)
        engine = load_engine(bundle_of(save(module, tmp_path / "int8.pt"), tmp_path), EngineOptions("cpu"))
        np.testing.assert_allclose(engine.infer(PIXELS), reference(module).softmax(dim=1), atol=1e-3)
    finally:
        torch.backends.quantized.engine = before


def test_probabilities_get_no_second_softmax(network, tmp_path):
    module = traced(Probabilities(network))
    engine = load_engine(bundle_of(save(module, tmp_path / "model.pt"), tmp_path), EngineOptions("cpu"))
    np.testing.assert_allclose(engine.infer(PIXELS), reference(module), atol=1e-6)


def test_it_looks_like_any_bundle(file, tmp_path):
    bundle = bare_bundle(file, Settings(load_labels(write_labels(tmp_path)), SPEC), name="mine")
    assert (bundle.spec.name, bundle.spec.num_classes, bundle.spec.preprocess) == ("mine", CLASSES, SPEC)
    assert bundle.labels[3] == "label 3"
    assert bundle.file == file
    assert bundle_of(file, tmp_path).spec.name == "model"


def test_a_class_count_that_is_not_that_of_the_labels_is_refused(file, tmp_path):
    with pytest.raises(EngineError, match=r"model\.pt: has 10 classes, but there are 9 labels"):
        load_engine(bundle_of(file, tmp_path, labels=9), EngineOptions("cpu"))


def test_damaged_files_are_refused_with_one_line_that_names_them(file, tmp_path):
    content = file.read_bytes()
    weights = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, weights)
    cases = [b"", b"no model", content[:-1000], content[1000:], weights.getvalue()]
    for damaged in cases:
        broken = tmp_path / "broken.pt"
        broken.write_bytes(damaged)
        with pytest.raises(EngineError, match=r"broken\.pt") as caught:
            bundle_of(broken, tmp_path)
        assert "\n" not in str(caught.value)


def test_one_changed_byte_anywhere_in_the_parts_is_noticed(file, tmp_path):
    content = file.read_bytes()
    with zipfile.ZipFile(file) as archive:
        parts = [info for info in archive.infolist() if info.file_size]
    broken = tmp_path / "broken.pt"
    for part in parts:
        # A local header is 30 bytes, then the name and padding, whose lengths are at 26 and 28.
        lengths = struct.unpack_from("<HH", content, part.header_offset + 26)
        position = part.header_offset + 30 + sum(lengths) + part.compress_size // 2
        broken.write_bytes(content[:position] + bytes([content[position] ^ 4]) + content[position + 1 :])
        with pytest.raises(EngineError, match=r"broken\.pt: (damaged|not a TorchScript)"):
            bundle_of(broken, tmp_path)


def test_a_model_for_other_inputs_is_refused(tmp_path):
    module = traced(nn.Linear(5, CLASSES), 2, 5)
    with pytest.raises(EngineError, match=r"does not run on normalised float \[N, 3, 64, 64\]: .*mat1 and mat2"):
        load_engine(bundle_of(save(module, tmp_path / "linear.pt"), tmp_path), EngineOptions("cpu"))


def test_an_output_that_is_no_row_per_image_is_refused(tmp_path):
    module = traced(nn.Conv2d(3, CLASSES, 3))
    with pytest.raises(EngineError, match=r"answers 4 images with float32 \[4, 10, 62, 62\]"):
        load_engine(bundle_of(save(module, tmp_path / "segments.pt"), tmp_path), EngineOptions("cpu"))


def test_missing_files_are_named(file, tmp_path):
    with pytest.raises(BundleError, match=r"nowhere\.pt: no such file"):
        bundle_of(tmp_path / "nowhere.pt", tmp_path)
    with pytest.raises(BundleError, match=r'needs labels: --labels FILE, or "labels" in model\.json'):
        bare_bundle(file, Settings())
