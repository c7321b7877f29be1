"""TorchScript files as people have them: served with the network's own scores, or refused with what to do."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from models.bundles.bare import bare_bundle
from models.bundles.settings import Settings
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.errors import BundleError, EngineError
from models.images.presets import PRESETS, preprocess_of
from models.networks.graph import jit_warnings_ignored
from tests.models.small import save, traced

SIDE = 16
SPEC = preprocess_of({"preset": "none", "resize_size": SIDE, "crop_size": SIDE}, "x")
LABELS = tuple("abcde")
PIXELS = np.random.default_rng(3).integers(0, 256, (4, SIDE, SIDE, 3), np.uint8)
INPUT = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255


class Net(nn.Module):
    """A small network whose outputs differ from image to image."""

    def __init__(self, classes=5, channels=3, after=None):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(1)
            convolution = nn.Conv2d(channels, 8, 3, 2)
            self.body = nn.Sequential(convolution, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten())
            self.head = nn.Linear(32, classes)
            self.head.weight.data *= 20
        self.after = after or nn.Identity()

    def forward(self, images):
        return self.after(self.head(self.body(images)))


def serve(module, settings=None, labels=LABELS, spec=SPEC, **given):
    """Scores of PIXELS by the engine, and the engine."""
    settings = settings or Settings(labels, spec, **given)
    file = save(module, serve.folder / "model.pt")
    engine = load_engine(bare_bundle(file, settings), EngineOptions("cpu", 1, max_batch_size=4))
    assert engine.infer(PIXELS[:1]).shape == (1, len(settings.labels))
    return engine.infer(PIXELS), engine


@pytest.fixture(autouse=True)
def folder(tmp_path):
    serve.folder = tmp_path


@torch.inference_mode()
def reference(module, inputs=INPUT):
    return module.eval()(inputs)


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, atol=1e-5)


def shape_of(*shape):
    return shape or (2, 3, SIDE, SIDE)


def trace(network, *shape, dtype=torch.float32):
    return traced(network, *shape_of(*shape), dtype=dtype)


@pytest.mark.parametrize(
    ("after", "activation", "expected"),
    [
        (nn.Identity(), "softmax", lambda logits: logits.softmax(1)),
        (nn.LogSoftmax(1), "softmax", lambda outputs: outputs.exp()),
        (nn.Softmax(1), "none", lambda outputs: outputs),
        (nn.Sigmoid(), "none", lambda outputs: outputs),
        (nn.Hardsigmoid(), "none", lambda outputs: outputs),
        (nn.ReLU(), "softmax", lambda outputs: outputs.softmax(1)),
        (nn.Tanh(), "softmax", lambda outputs: outputs.softmax(1)),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, nn.Module) else "",
)
def test_the_outputs_tell_the_activation(after, activation, expected):
    network = Net(after=after)
    scores, engine = serve(trace(network))
    close(scores, expected(reference(network)))
    assert engine.spec.activation == activation


def test_logits_that_lie_between_0_and_1_by_chance_are_still_logits():
    network = Net(after=nn.ReLU())
    network.head.weight.data /= 1000
    network.head.bias.data.fill_(0.3)
    assert reference(network).min() >= 0 and reference(network).max() < 1
    scores, engine = serve(trace(network))
    assert engine.spec.activation == "softmax"
    close(scores, reference(network).softmax(1))


class Clamped(Net):
    """ReLU6 bounds the features, and so the outputs, whatever the input; the last step is linear."""

    def forward(self, images):
        return self.after(self.head(F.relu6(self.body(images))))


@pytest.mark.parametrize("after", [None, nn.Flatten(), nn.Unflatten(1, (5, 1, 1))])
def test_what_ends_in_a_linear_layer_are_logits(after):
    network = Clamped(after=after)
    network.head.weight.data.abs_().div_(20 * 6 * 32)
    network.head.bias.data.fill_(0.1)
    outputs = reference(network).reshape(4, -1)
    assert outputs.min() >= 0 and outputs.max() <= 1
    scores, engine = serve(trace(network))
    assert (engine.spec.activation, engine.notices) == ("softmax", ())
    close(scores, outputs.softmax(1))


@pytest.mark.parametrize(
    ("named", "expected"), [("softmax", lambda o: o.softmax(1)), ("sigmoid", torch.sigmoid), ("", lambda o: o)]
)
def test_an_activation_that_is_named_is_taken(named, expected):
    network = Net(after=nn.Sigmoid())
    scores, engine = serve(trace(network), activation=named)
    close(scores, expected(reference(network)))
    assert any("flatten" in notice for notice in engine.notices) == (named == "sigmoid")


def test_scores_need_no_activation_and_logits_need_one():
    with pytest.raises(EngineError, match=r"model\.pt: outputs from .* are no scores between 0 and 1: --act"):
        serve(trace(Net()), activation="none")


@pytest.mark.parametrize("after", [nn.Identity(), nn.Sigmoid(), nn.Flatten(0)])
@pytest.mark.parametrize("labels", [("yes",), ("no", "yes")])
def test_one_output_is_the_score_of_the_only_or_the_second_label(after, labels):
    network = Net(1, after=after)
    outputs = reference(network).reshape(-1, 1)
    score = outputs if isinstance(after, nn.Sigmoid) else outputs.sigmoid()
    scores, engine = serve(trace(network), labels=labels)
    close(scores, score if len(labels) == 1 else torch.cat([1 - score, score], 1))
    assert np.ptp(scores[:, -1]) > 0.01  # not the same for every image
    assert engine.notices


class Ensemble(Net):
    """Ten softmaxes of a tenth each: their sums round to a little more than 1."""

    def forward(self, images):
        return sum(0.1 * (super(Ensemble, self).forward(images) * 300).softmax(1) for _ in range(10))


def test_scores_that_round_to_more_than_1_are_scores():
    network = Ensemble()
    with jit_warnings_ignored(), torch.inference_mode():
        module = torch.jit.trace(network.eval(), torch.rand(2, 3, SIDE, SIDE))
    scores, engine = serve(module)
    assert engine.spec.activation == "none"
    close(scores, reference(network))


class Squeezed(Net):
    """`squeeze` takes the batch's dimension away from a single image."""

    def __init__(self, early):
        super().__init__()
        self.early = early

    def forward(self, images):
        features = self.body(images)
        if self.early:
            return self.head(features.squeeze())
        return self.head(features)[:, :, None, None].squeeze()


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("script", [True, False])
def test_a_single_image_may_have_lost_its_dimension(early, script):
    network = Squeezed(early).eval()
    with jit_warnings_ignored():
        module = torch.jit.script(network) if script else trace(network)
    close(serve(module)[0], reference(Net()).softmax(1))


class Sorted(Net):
    def forward(self, images):
        return super().forward(images).softmax(1).topk(len(LABELS))


def test_sorted_scores_are_not_taken_for_those_of_the_labels():
    with jit_warnings_ignored():
        module = torch.jit.trace(Sorted().eval(), torch.rand(2, 3, SIDE, SIDE), strict=False)
    with pytest.raises(EngineError, match="sorted scores and their class numbers, as topk gives them"):
        serve(module)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_frozen_files_do_not_say_their_precision(dtype):
    network = Net().to(dtype)
    with jit_warnings_ignored(), torch.inference_mode():
        module = torch.jit.freeze(trace(network, dtype=dtype))
    scores, _ = serve(module)
    np.testing.assert_allclose(scores, reference(network, INPUT.to(dtype)).float().softmax(1), atol=2e-2)


def test_a_softmax_over_one_output_is_refused():
    for labels in (("yes",), ("no", "yes")):
        with pytest.raises((EngineError, BundleError), match="softmax"):
            serve(trace(Net(1)), labels=labels, activation="softmax")


class Two(NamedTuple):
    logits: torch.Tensor
    features: torch.Tensor


class Several(Net):
    """Answers with more than the scores."""

    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, images):
        features = self.body(images)
        return self.form(self.head(features), features)


def as_tuple(logits, features):
    return logits, features


def features_first(logits, features):
    return features, logits


def as_dict(logits, features):
    return {"logits": logits, "features": features}


def as_list_of_one(logits, features):
    return [logits]


@pytest.mark.parametrize(
    ("form", "output"),
    [(as_tuple, "0"), (features_first, "1"), (as_dict, "logits"), (as_list_of_one, "0"), (Two, "0")],
)
def test_of_several_outputs_the_one_with_a_score_for_each_label_is_taken(form, output):
    network = Several(form)
    with jit_warnings_ignored(), torch.inference_mode():
        module = torch.jit.trace(network.eval(), torch.rand(2, 3, SIDE, SIDE), strict=False)
    scores, engine = serve(module)
    close(scores, reference(Net()).softmax(1))
    assert engine.spec.output == output
    assert f"its output {output!r} holds the scores" in engine.notices


class ScriptedTwo(Net):
    def forward(self, images) -> Two:
        features = self.body(images)
        return Two(self.head(features), features)


def test_a_scripted_named_tuple_has_names():
    with jit_warnings_ignored():
        module = torch.jit.script(ScriptedTwo().eval())
    scores, engine = serve(module)
    close(scores, reference(Net()).softmax(1))
    assert engine.spec.output == "logits"


def test_of_several_that_fit_one_must_be_named():
    def twice(logits, features):
        return {"main": logits, "auxiliary": logits * 2}

    with jit_warnings_ignored():
        module = torch.jit.trace(Several(twice).eval(), torch.rand(2, 3, SIDE, SIDE), strict=False)
    with pytest.raises(EngineError, match=r"several of which fit the 5 labels; name one: --output main"):
        serve(module)
    close(serve(module, output="auxiliary")[0], (reference(Net()) * 2).softmax(1))
    close(serve(module, output="1")[0], (reference(Net()) * 2).softmax(1))
    with pytest.raises(EngineError, match="has no output 'x', it has main, auxiliary"):
        serve(module, output="x")


def test_none_that_fits_is_told_by_shapes():
    def no_scores(logits, features):
        return features, logits[:, :3]

    with jit_warnings_ignored():
        module = torch.jit.trace(Several(no_scores).eval(), torch.rand(2, 3, SIDE, SIDE), strict=False)
    said = r"answers with a tuple of 0: float32 \[4, 32\], 1: float32 \[4, 3\], none of which has one score"
    with pytest.raises(EngineError, match=said):
        serve(module)


class ClassNumbers(Net):
    def forward(self, images):
        return super().forward(images).argmax(1)


def test_class_numbers_are_no_scores():
    with pytest.raises(EngineError, match=r"int64 \[4\]: class numbers, not scores; export it without argmax"):
        serve(trace(ClassNumbers()))


def test_a_background_class_is_suspected():
    with pytest.raises(EngineError, match="has 6 classes, but there are 5 labels; is the first one a background"):
        serve(trace(Net(6)))


@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.float64, "fp64"), (torch.float16, "fp16"), (torch.bfloat16, "bf16")]
)
def test_other_precisions_are_served_as_they_are(dtype, precision):
    network = Net().to(dtype)
    scores, engine = serve(trace(network, dtype=dtype))
    np.testing.assert_allclose(scores, reference(network, INPUT.to(dtype)).float().softmax(1), atol=2e-2)
    assert engine.spec.precision == precision
    assert any("double precision" in notice for notice in engine.notices) == (precision == "fp64")


@pytest.mark.parametrize("preset", ["none", "half", "raw"])
def test_one_channel_is_pillows_grey(preset):
    from PIL import Image

    spec = preprocess_of({"preset": preset, "resize_size": SIDE, "crop_size": SIDE}, "x")
    network = Net(channels=1)
    grey = np.stack([np.asarray(Image.fromarray(pixels).convert("L")) for pixels in PIXELS])[:, None]
    inputs = (torch.from_numpy(grey / np.float32(255)) - PRESETS[preset].mean[0]) / PRESETS[preset].std[0]
    scores, engine = serve(trace(network, 2, 1, SIDE, SIDE), spec=spec)
    close(scores, reference(network, inputs.float()).softmax(1))
    assert "takes one channel: images become grey" in engine.notices


def test_one_channel_has_one_mean():
    spec = preprocess_of({"preset": "imagenet", "resize_size": SIDE, "crop_size": SIDE}, "x")
    with pytest.raises(EngineError, match="takes one channel, but the preprocessing has three means; name"):
        serve(trace(Net(channels=1), 2, 1, SIDE, SIDE), spec=spec)


class BatchOfOne(Net):
    def forward(self, images):
        return self.head(self.body(images).view(1, 32))


def test_a_batch_that_was_recorded_as_one_is_run_one_by_one():
    scores, engine = serve(trace(BatchOfOne(), 1, 3, SIDE, SIDE))
    close(scores, reference(Net()).softmax(1))
    assert any("one image at a time" in notice for notice in engine.notices)


class RecordedDevice(Net):
    def forward(self, images):
        return super().forward(images) + torch.zeros(len(LABELS), device=images.device)


def test_a_recorded_device_is_replaced_by_the_one_that_is_here():
    module = trace(RecordedDevice())
    for node in module.graph.findAllNodes("prim::Constant"):
        if str(node.output().type()) == "Device":
            node.s_("value", "cuda:0")
    file = save(module, serve.folder / "recorded.pt")
    with jit_warnings_ignored():
        again = torch.jit.load(file)
    assert "cuda:0" in str(again.graph)
    close(serve(again)[0], reference(Net()).softmax(1))


class TakesBytes(Net):
    def forward(self, images):
        return super().forward(images.permute(0, 3, 1, 2) / 255)


def test_a_graph_for_uint8_is_told_apart():
    module = traced(TakesBytes(), 2, SIDE, SIDE, 3, dtype=torch.uint8)
    with pytest.raises(EngineError, match=r"takes uint8 \[N, H, W, 3\]"):
        serve(module)


class Wide(Net):
    """A head that was made for another size of image."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.Flatten())
        self.head = nn.Linear(8 * 31 * 31, len(LABELS))


def test_another_size_is_told_with_what_was_wrong_and_what_to_do():
    module = traced(Wide(), 2, 3, 64, 64)
    with pytest.raises(EngineError, match=r"\[N, 3, 16, 16\]: .*shapes.*--preprocess FILE names it") as caught:
        serve(module)
    assert "\n" not in str(caught.value)
