"""The configuration files of timm and Hugging Face, against what those libraries do with them."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, PILToTensor, Resize

from models.bundles.settings import settings_of
from models.bundles.spec import IMAGENET, PreprocessSpec
from models.errors import BundleError
from models.images.preprocess import Preprocessor
from models.images.presets import PRESETS, preprocess_of, read_preprocess
from tests.conftest import lacking

IMAGES = Path(__file__).parents[3] / "images"
PHOTOS = [Image.open(IMAGES / name).convert("RGB") for name in ("cat.jpg", "astronaut-portrait.jpg")]
HALF = [0.5, 0.5, 0.5]
MEAN, STD = list(IMAGENET.mean), list(IMAGENET.std)

VIT = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": 224, "width": 224},
    "resample": 2,
    "do_rescale": True,
    "rescale_factor": 0.00392156862745098,
    "do_normalize": True,
    "image_mean": HALF,
    "image_std": HALF,
}
CONVNEXT = {
    "feature_extractor_type": "ConvNextFeatureExtractor",
    "crop_pct": 0.875,
    "do_normalize": True,
    "do_resize": True,
    "image_mean": MEAN,
    "image_std": STD,
    "resample": 3,
    "size": 224,
}
CLIP = {
    "feature_extractor_type": "CLIPFeatureExtractor",
    "do_center_crop": True,
    "crop_size": 224,
    "size": 256,
    "image_mean": MEAN,
    "image_std": STD,
}
TIMM = {
    "input_size": [3, 224, 224],
    "interpolation": "bicubic",
    "crop_pct": 0.9,
    "crop_mode": "center",
    "mean": HALF,
    "std": STD,
}


def without(document, *names):
    return {name: value for name, value in document.items() if name not in names}


def network_input(spec, photo):
    """What the served network gets: float [3, crop, crop]."""
    pixels = Preprocessor(spec).crop(photo).astype(np.float32) / 255
    return ((pixels - spec.mean) / spec.std).transpose(2, 0, 1)


def assert_same_input(spec, transform):
    """Within one level on nearly all pixels, and two at most, of what `transform` makes of a photo."""
    for photo in PHOTOS:
        got, wanted = network_input(spec, photo), transform(photo).numpy()
        level = 1 / 255 / np.array(spec.std)[:, None, None]
        levels = np.abs(got - wanted) / level
        assert levels.max() < 2.01
        assert (levels > 1.01).mean() < 1e-4


def processor(resize, crop, interpolation, mean, std, factor=1 / 255):
    """An image processor's steps, from torchvision. resize: a number for the short side, or a pair."""
    return Compose(
        [
            Resize(resize, InterpolationMode(interpolation)),
            CenterCrop(crop),
            PILToTensor(),
            lambda levels: levels * torch.tensor(factor),
            Normalize(mean, std),
        ]
    )


NOTHING = ([0.0] * 3, [1.0] * 3)


@pytest.mark.parametrize(
    ("document", "transform"),
    [
        (VIT, processor((224, 224), 224, "bilinear", HALF, HALF)),
        (
            without(VIT, "image_processor_type", "resample") | {"size": 224},
            processor((224, 224), 224, "bilinear", HALF, HALF),
        ),
        (
            VIT | {"image_processor_type": "ViTImageProcessorFast", "resample": "bicubic"},
            processor((224, 224), 224, "bicubic", HALF, HALF),
        ),
        (VIT | {"do_normalize": False}, processor((224, 224), 224, "bilinear", *NOTHING)),
        (VIT | {"do_rescale": False}, processor((224, 224), 224, "bilinear", HALF, HALF, 1.0)),
        (
            VIT | {"do_rescale": False, "do_normalize": False},
            processor((224, 224), 224, "bilinear", *NOTHING, 1.0),
        ),
        (
            VIT | {"do_rescale": False, "image_mean": [123, 116, 103], "image_std": 58},
            processor((224, 224), 224, "bilinear", [123, 116, 103], [58] * 3, 1.0),
        ),
        (
            VIT
            | {
                "image_processor_type": "DeiTImageProcessor",
                "do_center_crop": True,
                "size": 256,
                "crop_size": 224,
                "resample": 3,
            },
            processor((256, 256), 224, "bicubic", HALF, HALF),
        ),
        (CONVNEXT, processor(256, 224, "bicubic", MEAN, STD)),
        (without(CONVNEXT, "feature_extractor_type"), processor(256, 224, "bicubic", MEAN, STD)),
        (CONVNEXT | {"size": {"shortest_edge": 384}}, processor((384, 384), 384, "bicubic", MEAN, STD)),
        (CONVNEXT | {"size": {"shortest_edge": 300}, "crop_pct": 0.95}, processor(315, 300, "bicubic", MEAN, STD)),
        (CLIP, processor(256, 224, "bicubic", MEAN, STD)),
        (
            CLIP | {"size": {"shortest_edge": 224}, "crop_size": {"height": 192, "width": 192}},
            processor(224, 192, "bicubic", MEAN, STD),
        ),
        (
            CLIP | {"feature_extractor_type": "LevitFeatureExtractor", "size": 224},
            processor(256, 224, "bicubic", MEAN, STD),
        ),
        (
            CLIP | {"feature_extractor_type": "PoolFormerFeatureExtractor", "size": 224, "crop_pct": 0.95},
            processor(235, 224, "bicubic", MEAN, STD),
        ),
        (
            CLIP | {"feature_extractor_type": "MobileNetV2FeatureExtractor"},
            processor(256, 224, "bilinear", MEAN, STD),
        ),
        (
            VIT | {"image_processor_type": "Mine", "size": [224, 224]},
            processor((224, 224), 224, "bilinear", HALF, HALF),
        ),
    ],
    ids=lambda value: ",".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_processors_file_gives_the_network_what_the_processor_gives_it(document, transform):
    assert_same_input(preprocess_of(document, "x"), transform)


def test_efficientnets_processor_divides_by_std_twice_and_may_move_the_values_by_one():
    fields = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "image_mean": MEAN, "image_std": STD}
    efficientnet = VIT | {"image_processor_type": "EfficientNetImageProcessor"} | fields
    base = [Resize((224, 224)), PILToTensor(), lambda levels: levels / 127.5 - 1, Normalize(MEAN, STD)]
    assert_same_input(preprocess_of(efficientnet, "x"), Compose([*base, Normalize([0.0] * 3, STD)]))
    assert_same_input(preprocess_of(efficientnet | {"include_top": False}, "x"), Compose(base))


def test_usual_numbers_stay_what_they_are():
    spec = preprocess_of(CLIP, "x")
    assert (spec.mean, spec.std) == (IMAGENET.mean, IMAGENET.std)
    rounded = preprocess_of(VIT | {"rescale_factor": 0.003921569}, "x")
    assert rounded == PreprocessSpec(224, 224, "bilinear", (0.5,) * 3, (0.5,) * 3, "squash")
    raw = preprocess_of(VIT | {"do_rescale": False, "do_normalize": False}, "x")
    assert (raw.mean, raw.std) == (PRESETS["raw"].mean, PRESETS["raw"].std)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"interpolation": "bilinear", "crop_pct": 1.0},
        {"crop_mode": "squash"},
        {"crop_mode": "squash", "crop_pct": 1.0, "input_size": [3, 240, 240]},
        {"crop_mode": None, "crop_pct": None, "mean": None, "std": None, "interpolation": None},
        {"input_size": [3, 288, 288], "crop_pct": 0.95, "test_input_size": [3, 320, 320], "test_crop_pct": 1.0},
    ],
    ids=str,
)
def test_timms_file_gives_the_network_what_timms_transform_gives_it(changes):
    if find_spec("timm") is None:
        lacking("timm is not installed")
    from timm.data import create_transform, resolve_data_config

    config = TIMM | changes
    transform = create_transform(**resolve_data_config({}, pretrained_cfg=config))
    spec = preprocess_of({"architecture": "resnet18", "num_classes": 3, "pretrained_cfg": config}, "x")
    assert_same_input(spec, transform)
    assert preprocess_of(config, "x") == spec, "without what is around it"


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (VIT | {"resample": 1}, "x: resample 'lanczos' is not supported, only nearest, bilinear, bicubic are"),
        (VIT | {"resample": "PILImageResampling.HAMMING"}, "x: resample 'hamming' is not supported"),
        (VIT | {"resample": 17}, "x: resample 17 is not supported"),
        (VIT | {"resample": True}, "x: resample True is not supported"),
        (VIT | {"size": {"height": 224, "width": 200}}, "x: size {'height': 224, 'width': 200} is not supported"),
        (VIT | {"size": {"shortest_edge": 224, "longest_edge": 300}}, "x: size .* is not supported"),
        (VIT | {"size": {"shortest_edge": 224}}, "do_center_crop False with size shortest_edge 224 is not"),
        (VIT | {"size": {"height": 0, "width": 0}}, "x: size 0 must be a whole number of pixels"),
        (VIT | {"size": 22.5}, "x: size 22.5 must be a whole number"),
        (VIT | {"size": "224"}, "x: size '224' must be a whole number"),
        (without(VIT, "size"), "x: size None must be a whole number"),
        (VIT | {"size": {"height": [1], "width": [1]}}, "x: size .* must be a whole number"),
        (VIT | {"do_resize": False}, "x: do_resize False is not supported"),
        (VIT | {"do_resize": "yes"}, "x: do_resize 'yes' must be true or false"),
        (VIT | {"do_pad": True}, "x: do_pad True is not supported"),
        (VIT | {"do_flip_channel_order": True}, "x: do_flip_channel_order True is not supported"),
        (VIT | {"crop_pct": 0.9}, "x: crop_pct 0.9 is not supported"),
        (VIT | {"image_processor_type": "MobileViTImageProcessor"}, "image_processor_type 'MobileViT' is not"),
        (VIT | {"image_processor_type": "Perceiver"}, "image_processor_type 'Perceiver' is not supported"),
        (VIT | {"rescale_factor": 0.5}, "x: rescale_factor 0.5 is not supported, only 1/255 and 1/127.5 are"),
        (VIT | {"rescale_factor": "1/255"}, "x: rescale_factor '1/255' is not supported"),
        (VIT | {"image_mean": [0.5, 0.5]}, r"x: image_mean \[0.5, 0.5\] must be one number or three"),
        (VIT | {"image_std": None}, "x: image_std None must be one number or three"),
        (VIT | {"image_std": 0}, "std above 0"),
        (VIT | {"do_center_crop": True, "crop_size": 240}, "crop_size 240 must lie between 1 and resize_size 224"),
        (VIT | {"do_center_crop": True}, "x: crop_size None must be a whole number"),
        (VIT | {"do_center_crop": True, "crop_size": {"shortest_edge": 3}}, "x: crop_size .* is not supported"),
        (CONVNEXT | {"crop_pct": 1.5}, "x: crop_pct 1.5 must lie between 0.01 and 1"),
        (CONVNEXT | {"do_center_crop": True, "crop_size": 200}, "x: crop_size 200 must be size 224"),
        (without(VIT | {"image_processor_type": "Mine"}, "resample"), "'resample' is missing, and 'Mine'"),
        (TIMM | {"interpolation": "lanczos"}, "x: interpolation 'lanczos' is not supported"),
        (TIMM | {"crop_mode": "border"}, "x: crop_mode 'border' is not supported, only 'center' and 'squash' are"),
        (TIMM | {"input_size": [3, 224, 200]}, r"x: input_size \[3, 224, 200\] must be \[3, SIDE, SIDE\]"),
        (TIMM | {"input_size": [1, 224, 224]}, r"x: input_size \[1, 224, 224\] must be"),
        (TIMM | {"input_size": 224}, "x: input_size 224 must be"),
        (TIMM | {"crop_pct": 1.2}, "x: crop_pct 1.2 must lie between 0.01 and 1"),
        (TIMM | {"crop_pct": "0.9"}, "x: crop_pct '0.9' must lie"),
        (TIMM | {"mean": "none"}, "x: 'mean' must be one number or three"),
        ({"pretrained_cfg": TIMM | {"std": [1, 2]}}, "x: pretrained_cfg: 'std' must be one number or three"),
        ({"pretrained_cfg": TIMM | {"input_size": [3, 9000, 9000]}}, "resize_size 10000 must be at most 8192"),
        ({"pretrained_cfg": "resnet18"}, "x: pretrained_cfg 'resnet18' must be an object"),
        ({"model_type": "vit", "architectures": ["ViTForImageClassification"]}, "name the preprocessor_config"),
    ],
)
def test_what_cannot_be_done_is_refused_by_field_and_value(document, said):
    with pytest.raises(BundleError, match=said) as refusal:
        preprocess_of(document, "x")
    assert str(refusal.value).startswith("x")
    assert "\n" not in str(refusal.value)


def test_a_file_of_theirs_is_read_like_one_of_ours(tmp_path):
    file = tmp_path / "preprocessor_config.json"
    file.write_text(json.dumps(CLIP))
    assert read_preprocess(str(file)) == preprocess_of(CLIP, "x")


def test_a_settings_file_may_hold_theirs(tmp_path):
    (tmp_path / "mine.json").write_text(json.dumps({"preprocess": {"pretrained_cfg": TIMM}}))
    assert settings_of(tmp_path / "mine.pt").preprocess == preprocess_of(TIMM, "x")
