"""Files that answer differently from time to time are refused; sound ones are not."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional as F

from models.bundles.bare import bare_bundle
from models.bundles.settings import Settings
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.engines.load_checks import probes
from models.errors import EngineError
from models.images.presets import preprocess_of
from models.networks.graph import jit_warnings_ignored
from tests.models.small import save

SIDE = 32
LABELS = tuple("abcde")
GEOMETRY = {"resize_size": SIDE, "crop_size": SIDE}
NONE = preprocess_of({"preset": "none", **GEOMETRY}, "x")
IMAGENET = preprocess_of({"preset": "imagenet", **GEOMETRY}, "x")


def net(*extra, head=()):
    """A small network with layers behind the convolution, and behind the head's first layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, 2), *extra, nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(),
            nn.Linear(32, 16), *head, nn.ReLU(), nn.Linear(16, len(LABELS)),
        )  # fmt: skip


def load(module, folder, spec=NONE, named=True, side=SIDE):
    file = save(module, folder / "model.pt")
    bundle = bare_bundle(file, Settings(LABELS, spec))
    bundle.spec.source["preprocess"] = "named" if named else "default"
    return load_engine(bundle, EngineOptions("cpu", 1, max_batch_size=4))


def export(network, how="trace", batch=2, side=SIDE):
    """As it is: nothing calls eval()."""
    with jit_warnings_ignored(), torch.no_grad():
        if how == "script":
            return torch.jit.script(network)
        return torch.jit.trace(network, torch.rand(batch, 3, side, side), check_trace=False)


class AlwaysDropsOut(nn.Module):
    """`functional.dropout` without `training=self.training` drops out for ever."""

    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, images):
        return F.dropout(self.net(images), 0.5)


class Noisy(AlwaysDropsOut):
    def forward(self, images):
        outputs = self.net(images)
        return outputs + torch.randn_like(outputs)


class ByBatch(AlwaysDropsOut):
    """Normalises by the mean of the batch, without BatchNorm."""

    def forward(self, images):
        return self.net(images - images.mean(0, keepdim=True))


class ByPlace(AlwaysDropsOut):
    """Its answer depends on where in the batch an image stands."""

    def forward(self, images):
        outputs = self.net(images)
        return outputs + torch.arange(len(images)).unsqueeze(1) * 0.5


class ByFirst(AlwaysDropsOut):
    """The first image of the batch counts for all."""

    def forward(self, images):
        return self.net(images) + self.net(images[:1])


class Spread(AlwaysDropsOut):
    """Attention over the batch instead of the tokens: a transposition that was forgotten."""

    def forward(self, images):
        outputs = self.net(images)
        return (outputs @ outputs.T).softmax(1) @ outputs


UNSOUND = {
    "dropout in training mode": (lambda: export(net(head=(nn.Dropout(0.5),))), "dropout is active"),
    "2d dropout in training mode": (lambda: export(net(nn.Dropout2d(0.3))), "dropout is active"),
    "alpha dropout in training mode": (lambda: export(net(head=(nn.AlphaDropout(0.3),))), "dropout is active"),
    "dropout that seldom acts": (lambda: export(net(head=(nn.Dropout(0.001),))), "dropout is active"),
    "random slopes": (lambda: export(net(nn.RReLU())), "rrelu is active"),
    "dropout outside of modules": (lambda: export(AlwaysDropsOut().eval()), "dropout is active"),
    "the same, scripted": (lambda: export(AlwaysDropsOut().eval(), "script"), "differently each time"),
    "noise": (lambda: export(Noisy().eval()), "answers the same images differently each time"),
    "BatchNorm behind a convolution": (
        lambda: export(net(nn.BatchNorm2d(8))),
        "BatchNorm takes mean and variance",
    ),
    "BatchNorm behind a linear layer": (lambda: export(net(head=(nn.BatchNorm1d(16),))), "BatchNorm takes mean"),
    "BatchNorm without statistics": (
        lambda: export(net(nn.BatchNorm2d(8, track_running_stats=False)).eval()),
        "BatchNorm takes mean",
    ),
    "the batch's mean": (lambda: export(ByBatch().eval()), "an image alone has another answer"),
    "the place": (lambda: export(ByPlace().eval(), "script"), "depends on its place in the batch"),
    "the first image": (lambda: export(ByFirst().eval()), "depends on its place in the batch"),
    "attention over the batch": (lambda: export(Spread().eval()), "an image alone has another answer"),
}


@pytest.mark.parametrize("what", UNSOUND)
def test_a_file_that_answers_differently_is_refused_with_what_to_do(tmp_path, what):
    make, said = UNSOUND[what]
    with pytest.raises(EngineError, match=said) as caught:
        load(make(), tmp_path)
    assert str(caught.value).startswith(f"{tmp_path / 'model.pt'}: ")
    assert "\n" not in str(caught.value)


def architecture(name, dtype=torch.float32):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        options = {"image_size": 64} if name.startswith("vit") else {}
        return (
            torchvision.models.get_model(name, weights=None, num_classes=len(LABELS), **options).eval().to(dtype)
        )


class DropsInTraining(AlwaysDropsOut):
    def forward(self, images):
        outputs = self.net(images)
        if self.training:
            outputs = F.dropout(outputs, 0.5, True)
        return outputs


SOUND = {
    "dropout in a branch that is not taken": lambda: export(DropsInTraining().eval(), "script"),
    "dropout in evaluation mode": lambda: export(net(nn.Dropout2d(0.5), head=(nn.Dropout(0.5),)).eval()),
    "the same, scripted": lambda: export(net(nn.Dropout2d(0.5), head=(nn.Dropout(0.5),)).eval(), "script"),
    "scripted in training mode, which eval() ends": lambda: export(
        net(nn.BatchNorm2d(8), nn.Dropout(0.5)), "script"
    ),
    "dropout of nothing": lambda: export(net(head=(nn.Dropout(0.0),))),
    "BatchNorm in evaluation mode": lambda: export(net(nn.BatchNorm2d(8), head=(nn.BatchNorm1d(16),)).eval()),
    "normalised by itself": lambda: export(net(nn.InstanceNorm2d(8), head=(nn.LayerNorm(16),)).eval()),
    "in groups": lambda: export(net(nn.GroupNorm(2, 8)).eval()),
}
ARCHITECTURES = {
    "squeezenet1_1": ("trace", torch.float32),
    "shufflenet_v2_x0_5": ("script", torch.float32),
    "mobilenet_v3_small": ("trace", torch.bfloat16),
    "shufflenet_v2_x1_0": ("trace", torch.float16),
    "resnet18": ("script", torch.float32),
    "efficientnet_b0": ("trace", torch.float32),
}


@pytest.mark.parametrize("what", SOUND)
def test_a_sound_file_is_served(tmp_path, what):
    assert load(SOUND[what](), tmp_path).notices == ()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_sound_architectures_are_served(tmp_path, name):
    how, dtype = ARCHITECTURES[name]
    network, side = architecture(name, dtype), 64
    with jit_warnings_ignored(), torch.inference_mode():
        example = torch.rand(2, 3, side, side, dtype=dtype)
        module = torch.jit.script(network) if how == "script" else torch.jit.trace(network, example)
    spec = preprocess_of({"preset": "imagenet", "resize_size": side, "crop_size": side}, "x")
    load(module, tmp_path, spec)


class Normalising(nn.Module):
    """Subtracts ImageNet's mean itself, in one of the ways that people do it."""

    def __init__(self, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), scale=1.0):
        super().__init__()
        self.net = net()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * scale)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * scale)

    def forward(self, images):
        return self.net((images - self.mean) / self.std)


class ByList(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net()

    def forward(self, images):
        mean = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
        std = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
        return self.net((images - mean) / std)


NORMALISING = {
    "buffers": lambda: export(Normalising().eval()),
    "buffers of a scripted module": lambda: export(Normalising().eval(), "script"),
    "values 0 to 255": lambda: export(Normalising(scale=255.0).eval()),
    "frozen constants": lambda: torch.jit.freeze(export(Normalising().eval())),
    "tensors in the code": lambda: export(ByList().eval()),
    "lists in scripted code": lambda: export(ByList().eval(), "script"),
    "CLIP's": lambda: export(
        Normalising((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)).eval()
    ),
    "a half": lambda: export(Normalising((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)).eval()),
}


@pytest.mark.parametrize("what", NORMALISING)
def test_normalising_twice_ends_the_start_unless_it_was_asked_for(tmp_path, what):
    with jit_warnings_ignored():
        module = NORMALISING[what]()
    with pytest.raises(EngineError, match=r"normalises its input itself \(mean 0\.\d.*name --preprocess none"):
        load(module, tmp_path, IMAGENET, named=False)
    (notice,) = load(module, tmp_path, IMAGENET).notices
    assert "--preprocess would do it once more" in notice
    assert load(module, tmp_path, NONE).notices == ()


def test_a_network_without_normalisation_is_not_suspected(tmp_path):
    assert load(export(net().eval()), tmp_path, IMAGENET, named=False).notices == ()


def test_the_same_scores_for_all_are_noticed(tmp_path):
    constant = net()
    constant[-1].weight.data.zero_()
    (notice,) = load(export(constant.eval()), tmp_path).notices
    assert "gives four very different images the same scores" in notice


def test_the_probes_differ_in_what_a_batch_is_normalised_by():
    images = probes(SIDE, "cpu").float()
    means, deviations = images.mean(dim=(1, 2)), images.std(dim=(1, 2))
    measures = torch.cat([means, deviations], dim=1)
    differences = (measures[:, None] - measures[None]).abs().amax(dim=2)
    assert (differences + 255 * torch.eye(len(images)) > 20).all()
