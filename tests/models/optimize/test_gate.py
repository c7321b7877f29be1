"""The gate on trained weights: every precision is still the same classifier, and planted faults are refused."""

import dataclasses
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from examples.digits.folders import write_folders
from models.errors import ModelError
from models.images.preprocess import Preprocessor
from models.optimize import recipes
from models.optimize.candidates import Job, fx, openvino, torchscript
from models.optimize.contestant import Contestant, Setting
from models.optimize.errors import FidelityError
from models.optimize.evidence import gather, upright_rgb
from models.optimize.examination import judge
from models.optimize.fidelity import LIMITS
from models.optimize.image_set import ImageSet, deal, labelled, unlabelled
from models.optimize.recipes import recipe_for
from models.optimize.sources import WeightsChoice, resolve
from models.optimize.trial import reservation_of
from tests.conftest import ROOT
from tests.models.small import quiet

pytestmark = pytest.mark.timeout(900)
OPENVINO = (openvino.FP32, openvino.INT8)
CANDIDATES = {"demo": (torchscript.FP32, fx.ONEDNN, fx.X86, *OPENVINO), "imagenet": (torchscript.FP32, *OPENVINO)}


class Course:
    """A trained model, its images, and what became of candidates."""

    def __init__(self, weights, images, folder, limits=LIMITS):
        self.weights = weights
        self.evidence = gather(self.weights, images)
        self.job = Job(self.weights.network(), self.weights.preprocess, (32,), self.evidence.calibration)
        self.folder = folder / "engines"
        self.limits = limits
        self._scores = {}

    def judge(self, candidate, job=None, change=lambda scores: scores):
        scores = self.scores(candidate, job) if job else self.sound_scores(candidate)
        return judge(candidate, change(scores), self.evidence, self.limits[candidate.precision])

    def sound_scores(self, candidate):
        """What the candidate says that nobody has spoilt; it is built once."""
        if candidate.name not in self._scores:
            self._scores[candidate.name] = self.scores(candidate, self.job)
        return self._scores[candidate.name]

    def scores(self, candidate, job):
        folder = self.folder / f"{candidate.name}-{id(job)}"
        folder.mkdir(parents=True, exist_ok=True)
        contestant = Contestant(candidate, job, self.weights.architecture, self.weights.labels, folder)
        contestant.build()
        return contestant.scores(self.evidence.pixels, Setting(1))

    def refusal(self, *arguments, **changes):
        candidate = arguments[0]
        with pytest.raises(FidelityError) as caught:
            self.judge(*arguments, **changes).check(self.limits[candidate.precision])
        return str(caught.value)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A ShuffleNet, and 728 digits that it has not been trained on."""
    weights = resolve(WeightsChoice("", bundle=ROOT / "models/demo"), quiet())
    folder = tmp_path_factory.mktemp("demo")
    validation, calibration = write_folders(folder, max(weights.source["smallest_digit"], 0.4))
    _, photos = deal(labelled(validation, weights.labels), 0, 1000)
    calibrating, _ = deal(unlabelled(calibration), 128, 0, share=1)
    return Course(weights, ImageSet(calibrating, photos), folder)


@pytest.fixture(scope="module")
def lite0(imagenet, tmp_path_factory):
    """EfficientNet-Lite0 by its recipe."""
    images = recipe_for(imagenet.source).images()
    limits = {**LIMITS, "int8": recipes.LIMITS}
    return Course(imagenet, images, tmp_path_factory.mktemp("lite0"), limits)


def test_the_evidence_is_the_held_out_set(demo):
    assert demo.evidence.photos == len(demo.evidence.pixels) == 728
    assert demo.evidence.reference_accuracy > 0.85
    assert len(demo.evidence.calibration) == 128


def test_every_precision_is_the_same_classifier(demo):
    """int8 is among the accepted, and whatever is accepted loses half a point of accuracy at most."""
    accepted = []
    for candidate in CANDIDATES["demo"]:
        result = demo.judge(candidate)
        try:
            result.check(LIMITS[candidate.precision])
        except FidelityError:
            assert candidate.precision == "int8"
            continue
        accepted.append(candidate)
        assert result.reference_accuracy - result.accuracy <= 0.005
    assert {"fp32", "int8"} == {candidate.precision for candidate in accepted}
    assert {torchscript.FP32, openvino.FP32} <= set(accepted)


@pytest.mark.parametrize("candidate", CANDIDATES["imagenet"], ids=lambda each: each.name)
def test_imagenet_weights_pass_by_their_recipe(lite0, candidate):
    """int8 too, and on 256 different crops of photos that have not calibrated it."""
    result = lite0.judge(candidate)
    result.check(lite0.limits[candidate.precision])
    assert result.images == lite0.evidence.photos == 256 == len(np.unique(lite0.evidence.pixels, axis=0))
    assert result.decisive_images >= 240


@pytest.mark.exhaustive
def test_depthwise_convolutions_lose_more_in_int8_than_all_others(lite0, monkeypatch):
    usual = lite0.judge(openvino.INT8).top1_agreement
    monkeypatch.setattr(openvino, "_depthwise", lambda model: [])
    assert lite0.judge(openvino.INT8, dataclasses.replace(lite0.job)).top1_agreement < usual


@pytest.mark.exhaustive
def test_int8_that_was_calibrated_on_black_is_refused_by_the_recipe(lite0):
    black = dataclasses.replace(lite0.job, calibration=np.zeros_like(lite0.job.calibration[:8]))
    assert "agrees with eager fp32 on" in lite0.refusal(openvino.INT8, black)


def without_normalisation(job):
    """A few images to calibrate on suffice for a fault."""
    plain = dataclasses.replace(job.preprocess, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    return dataclasses.replace(job, preprocess=plain, calibration=job.calibration[:32])


@pytest.mark.parametrize("candidate", [torchscript.FP32, fx.ONEDNN, openvino.INT8], ids=lambda each: each.name)
def test_a_graph_without_normalisation_is_refused(demo, candidate):
    assert "%" in demo.refusal(candidate, without_normalisation(demo.job))


@pytest.mark.parametrize("candidate", [torchscript.FP32, fx.ONEDNN], ids=lambda each: each.name)
def test_labels_that_are_shifted_by_one_are_refused(demo, candidate):
    shifted = demo.refusal(candidate, change=lambda scores: np.roll(scores, 1, axis=1))
    assert re.match(r"agrees with eager fp32 on [0-9]\.[0-9]+% of", shifted)


def test_int8_that_was_never_calibrated_is_refused(demo, monkeypatch):
    monkeypatch.setattr(fx, "observe", lambda *_: None)
    assert "agrees with eager fp32 on" in demo.refusal(fx.ONEDNN, dataclasses.replace(demo.job))


@pytest.mark.parametrize("candidate", [fx.ONEDNN, openvino.INT8], ids=lambda each: each.name)
def test_int8_without_images_is_not_built(demo, candidate):
    job = dataclasses.replace(demo.job, calibration=demo.job.calibration[:0])
    with pytest.raises(ModelError, match="no images to calibrate on"):
        demo.judge(candidate, job)


class OneDeadChannel(nn.Module):
    """A network the loudest channel of whose first layer says nothing."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        first = next(module for module in network.modules() if isinstance(module, nn.Conv2d))
        with torch.no_grad():
            first.weight[first.weight.abs().sum(dim=(1, 2, 3)).argmax()] = 0

    def forward(self, images):
        return self.network(images)


@pytest.mark.parametrize("candidate", [torchscript.FP32], ids=lambda each: each.name)
def test_one_dead_channel_is_refused(lite0, candidate):
    job = dataclasses.replace(lite0.job, network=OneDeadChannel(lite0.weights.network()).eval())
    assert "eager fp32" in lite0.refusal(candidate, job)


def test_images_that_are_prepared_wrongly_are_seen(demo, monkeypatch):
    """Upside down passes no comparison with torchvision's own transforms of the same files."""
    photos, _ = deal(unlabelled(demo.folder.parent / "validation"), 64, 0, share=1)
    prepare = Preprocessor.__call__
    monkeypatch.setattr(
        Preprocessor, "__call__", lambda self, data: np.ascontiguousarray(prepare(self, data)[::-1])
    )
    with pytest.raises(FidelityError, match="agrees with eager fp32 on"):
        gather(demo.weights, ImageSet(photos=photos))


def test_int8_is_chosen_only_when_enough_images_prove_it(demo):
    few = dataclasses.replace(demo.evidence, photos=255)
    assert reservation_of(fx.ONEDNN, few, False) == "weak gate: 255 of 256 images"
    assert reservation_of(fx.ONEDNN, few, True) == ""
    assert reservation_of(fx.ONEDNN, demo.evidence, False) == ""
    assert reservation_of(torchscript.FP32, few, False) == ""
    published = dataclasses.replace(fx.ONEDNN, is_published=True)
    assert reservation_of(published, few, False) == ""
    unservable = dataclasses.replace(torchscript.FP32, servable=False)
    assert "interpreter lock" in reservation_of(unservable, demo.evidence, True)


def test_the_reference_stands_upright_on_white():
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGBA", (4, 8), (0, 0, 0, 0)).save(stream, "PNG", exif=exif)
    image = upright_rgb(stream.getvalue())
    assert (image.size, image.getpixel((0, 0))) == ((8, 4), (255, 255, 255))
