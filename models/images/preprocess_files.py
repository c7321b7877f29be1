"""Preprocessing as timm's `config.json` and Hugging Face's `preprocessor_config.json` say it. Imports neither."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.bundles.spec import IMAGENET, INTERPOLATIONS, SHORTEST, SQUASH, PreprocessSpec, spec_from_json
from models.errors import BundleError

_Document = Mapping[str, Any]

_TIMM = ("pretrained_cfg", "input_size")
_PROCESSOR = (
    "image_processor_type",
    "feature_extractor_type",
    "do_resize",
    "do_rescale",
    "do_normalize",
    "image_mean",
)
_MODEL = ("model_type", "architectures")  # of Hugging Face's config.json, which has no preprocessing


def is_library_file(document: _Document) -> bool:
    """Whether parsed JSON is a file of timm or of Hugging Face."""
    return any(name in document for name in (*_TIMM, *_PROCESSOR, *_MODEL))


def library_preprocess(document: _Document, where: str) -> PreprocessSpec:
    """The preprocessing that timm or Hugging Face's transformers would do.

    Args:
        document: a parsed file of which `is_library_file` is true.
        where: names it in errors.

    Raises:
        BundleError: a field is missing, wrong, or asks for what cannot be done exactly; it names field and value.
    """
    if "pretrained_cfg" in document:
        config = document["pretrained_cfg"]
        if not isinstance(config, dict):
            raise BundleError(f"{where}: pretrained_cfg {config!r} must be an object")
        return _from_timm(config, f"{where}: pretrained_cfg")
    if any(name in document for name in _PROCESSOR):
        return _from_processor(document, where)
    if any(name in document for name in _MODEL):
        raise BundleError(
            f"{where}: describes a network of Hugging Face, not how images are prepared; name the "
            "preprocessor_config.json beside it"
        )
    return _from_timm(document, where)


def _from_timm(config: _Document, where: str) -> PreprocessSpec:
    """As `timm.data.transforms_imagenet_eval` does it, with the defaults of `timm.data.resolve_data_config`."""
    side = _timm_side(_or(config, "input_size", [3, 224, 224]), where)
    crop_pct = _fraction(config, "crop_pct", 0.875, where)
    mode = _or(config, "crop_mode", "center")
    if mode not in ("center", SQUASH):
        raise BundleError(f"{where}: crop_mode {mode!r} is not supported, only 'center' and {SQUASH!r} are")
    fields = {
        "resize_size": math.floor(side / crop_pct),
        "crop_size": side,
        "interpolation": _named(_or(config, "interpolation", "bicubic"), f"{where}: interpolation"),
        "mean": _or(config, "mean", list(IMAGENET.mean)),
        "std": _or(config, "std", list(IMAGENET.std)),
        "resize_mode": SQUASH if mode == SQUASH else SHORTEST,
    }
    return spec_from_json(PreprocessSpec, fields, where)


def _timm_side(size: Any, where: str) -> int:
    if isinstance(size, list) and len(size) == 3 and size[0] == 3 and size[1] == size[2]:
        return _side(size[1], f"{where}: input_size")
    raise BundleError(f"{where}: input_size {size!r} must be [3, SIDE, SIDE]")


@dataclass(frozen=True)
class _Processor:
    """What an image processor of Hugging Face does where its file does not say so.

    Attributes:
        square: whether a `size` that is one number stands for both sides; else for the short one.
        resample: filter as a number of Pillow's; None for a processor that is not known here.
        crops: whether it crops.
    """

    square: bool = True
    resample: int | None = None
    crops: bool = False


_BILINEAR, _BICUBIC = 2, 3  # Pillow's numbers
_CONVNEXT, _POOLFORMER, _LEVIT, _EFFICIENTNET = "ConvNext", "PoolFormer", "Levit", "EfficientNet"
_VIT = "ViT"
_PROCESSORS = {
    _VIT: _Processor(True, _BILINEAR),
    "DeiT": _Processor(True, _BICUBIC, crops=True),
    "Beit": _Processor(True, _BICUBIC),
    "Bit": _Processor(False, _BICUBIC, crops=True),
    "CLIP": _Processor(False, _BICUBIC, crops=True),
    "ChineseCLIP": _Processor(False, _BICUBIC, crops=True),
    "DINOv3ViT": _Processor(True, _BILINEAR),
    "Pvt": _Processor(True, _BICUBIC),
    "Segformer": _Processor(True, _BILINEAR),
    "Siglip": _Processor(False, _BICUBIC),
    "MobileNetV1": _Processor(False, _BILINEAR, crops=True),
    "MobileNetV2": _Processor(False, _BILINEAR, crops=True),
    _CONVNEXT: _Processor(False, _BICUBIC),
    _POOLFORMER: _Processor(False, _BICUBIC, crops=True),
    _LEVIT: _Processor(False, _BICUBIC, crops=True),
    _EFFICIENTNET: _Processor(True, _BICUBIC),
}
# Their steps are others than the fields say: channels exchanged, colours as clusters, cropped before the resize.
_REFUSED = ("MobileViT", "ImageGPT", "Perceiver", "TextNet", "PPLCNet")
_KNOWN_STEPS = ("do_resize", "do_center_crop", "do_rescale", "do_normalize")
_HARMLESS_STEPS = ("do_convert_rgb", "do_reduce_labels")  # images are RGB already; labels are for training
_PILLOW = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers


def _from_processor(document: _Document, where: str) -> PreprocessSpec:
    name = _processor_name(document)
    _check_steps(document, name, where)
    resize, crop, mode = _geometry(document, name, where)
    mean, std = _normalisation(document, name, where)
    fields = {
        "resize_size": resize,
        "crop_size": crop,
        "interpolation": _resample(document, name, where),
        "mean": mean,
        "std": std,
        "resize_mode": mode,
    }
    return spec_from_json(PreprocessSpec, fields, where)


def _processor_name(document: _Document) -> str:
    """The family, e.g. "ConvNext" of "ConvNextFeatureExtractor", "ConvNextImageProcessorFast" and the like."""
    name = str(document.get("image_processor_type") or document.get("feature_extractor_type") or "")
    for ending in ("Fast", "Pil", "ImageProcessor", "FeatureExtractor"):
        name = name.removesuffix(ending)
    name = {"ConvNeXT": _CONVNEXT, "ConvNeXt": _CONVNEXT}.get(name, name)
    # The first files of ViT name no processor.
    return name or (_CONVNEXT if document.get("crop_pct") is not None else _VIT)


def _check_steps(document: _Document, name: str, where: str) -> None:
    if name in _REFUSED:
        raise BundleError(
            f"{where}: image_processor_type {name!r} is not supported: its steps are not those of its fields; "
            "write them as resize_size, crop_size, interpolation, mean, std (docs/models.md)"
        )
    for field, value in document.items():
        unknown = field.startswith("do_") and field not in (*_KNOWN_STEPS, *_HARMLESS_STEPS)
        own = (field == "crop_pct" and name not in (_CONVNEXT, _POOLFORMER)) or field == "size_divisor"
        if (unknown and value) or (own and value is not None):
            raise BundleError(f"{where}: {field} {value!r} is not supported")
    if not _flag(document, "do_resize", True, where):
        raise BundleError(f"{where}: do_resize False is not supported: images come in any size")


def _geometry(document: _Document, name: str, where: str) -> tuple[int, int, str]:
    """The `resize_size`, `crop_size` and `resize_mode`."""
    size, mode = _size(document, name, where)
    crops = _flag(document, "do_center_crop", _PROCESSORS.get(name, _Processor()).crops, where)
    crop = _square(document, "crop_size", where) if crops else size
    if name == _CONVNEXT:
        return _convnext(document, size, crop, where)
    if name == _LEVIT and mode == SHORTEST:
        size = int(size * 256 / 224)  # "(256 / 224) * shortest_edge" of the processor
    if name == _POOLFORMER and _or(document, "crop_pct", None) is not None:
        size, mode = int(size / _fraction(document, "crop_pct", 1.0, where)), SHORTEST
    if mode == SHORTEST and not crops:
        raise BundleError(
            f"{where}: do_center_crop False with size shortest_edge {size} is not supported: the images would not "
            "be square"
        )
    return size, crop, mode


def _convnext(document: _Document, size: int, crop: int, where: str) -> tuple[int, int, str]:
    """Below 384 the short side becomes size / crop_pct and is cropped; from there on both sides become size."""
    if crop != size:
        raise BundleError(
            f"{where}: crop_size {crop} must be size {size}, to which the images are cropped already"
        )
    if size >= 384:
        return size, size, SQUASH
    return int(size / _fraction(document, "crop_pct", 224 / 256, where)), size, SHORTEST


def _size(document: _Document, name: str, where: str) -> tuple[int, str]:
    """The side, and whether it is the short one's or both's."""
    size = document.get("size")
    if isinstance(size, dict):
        size = {key: value for key, value in size.items() if value is not None}
        if size.keys() == {"shortest_edge"}:
            return _side(size["shortest_edge"], f"{where}: size"), SHORTEST
    elif not isinstance(size, list):
        square = _PROCESSORS.get(name, _Processor()).square
        return _side(size, f"{where}: size"), SQUASH if square else SHORTEST
    return _square(document, "size", where), SQUASH


def _square(document: _Document, field: str, where: str) -> int:
    """A size of equal sides: 224, [224, 224] or {"height": 224, "width": 224}."""
    size = document.get(field)
    sides = size
    if isinstance(size, dict):
        size = {key: value for key, value in size.items() if value is not None}
        sides = [size.get("height"), size.get("width")] if size.keys() == {"height", "width"} else []
    if not isinstance(sides, list):
        sides = [sides] * 2
    if len(sides) == 2 and sides[0] == sides[1]:
        return _side(sides[0], f"{where}: {field}")
    raise BundleError(
        f'{where}: {field} {size!r} is not supported: only SIDE, {{"height": SIDE, "width": SIDE}} and, of size, '
        '{"shortest_edge": SIDE} are'
    )


def _resample(document: _Document, name: str, where: str) -> str:
    value = _or(document, "resample", _PROCESSORS.get(name, _Processor()).resample)
    if value is None:
        raise BundleError(
            f"{where}: 'resample' is missing, and {name!r} is not known here; add \"resample\": 2 or 3"
        )
    if type(value) is int and 0 <= value < len(_PILLOW):
        value = _PILLOW[value]
    return _named(value, f"{where}: resample")


def _normalisation(document: _Document, name: str, where: str) -> tuple[list[float], list[float]]:
    """The mean and std of values 0 … 1 that do what rescaling and normalising do to levels 0 … 255.

    (level * factor - offset - image_mean) / image_std, of which the last two only if it normalises. EfficientNet's
    processor divides by `image_std` once more with `include_top`.
    """
    scale, offset = _rescaling(document, where)
    mean, std = [0.0] * 3, [1.0] * 3
    if _flag(document, "do_normalize", True, where):
        mean, std = _channels(document, "image_mean", where), _channels(document, "image_std", where)
    if name == _EFFICIENTNET and _flag(document, "include_top", True, where):
        std = [one * other for one, other in zip(std, _channels(document, "image_std", where), strict=True)]
    return [(each + offset) / scale for each in mean], [each / scale for each in std]


def _rescaling(document: _Document, where: str) -> tuple[float, float]:
    """What values 0 … 1 are multiplied with, and what is then taken away."""
    if not _flag(document, "do_rescale", True, where):
        return 255.0, 0.0
    offset = any(_flag(document, name, False, where) for name in ("rescale_offset", "offset"))
    factor = _or(document, "rescale_factor", 1 / 255)
    if _is_number(factor):
        for scale in (1.0, 2.0):
            if math.isclose(factor * 255, scale, rel_tol=1e-5):
                return scale, float(offset)
    raise BundleError(f"{where}: rescale_factor {factor!r} is not supported, only 1/255 and 1/127.5 are")


def _channels(document: _Document, field: str, where: str) -> list[float]:
    """One number for each channel; one stands for three."""
    value = document.get(field)
    values: list[Any] = value if isinstance(value, list) else [value]
    if len(values) in (1, 3) and all(map(_is_number, values)):
        return [float(each) for each in values] * (3 // len(values))
    raise BundleError(f"{where}: {field} {value!r} must be one number or three")


def _named(value: Any, where: str) -> str:
    """An interpolation by name, e.g. "bicubic" or "PILImageResampling.BICUBIC"."""
    name = value.rpartition(".")[2].lower() if isinstance(value, str) else value
    if name not in INTERPOLATIONS:
        raise BundleError(f"{where} {name!r} is not supported, only {', '.join(INTERPOLATIONS)} are")
    return str(name)


def _side(value: Any, where: str) -> int:
    if _is_number(value) and value == int(value) and value >= 1:
        return int(value)
    raise BundleError(f"{where} {value!r} must be a whole number of pixels")


def _fraction(document: _Document, field: str, default: float, where: str) -> float:
    value = _or(document, field, default)
    if _is_number(value) and 0.01 <= value <= 1:
        return float(value)
    raise BundleError(f"{where}: {field} {value!r} must lie between 0.01 and 1")


def _flag(document: _Document, field: str, default: bool, where: str) -> bool:
    value = _or(document, field, default)
    if isinstance(value, bool):
        return value
    raise BundleError(f"{where}: {field} {value!r} must be true or false")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 1e9


def _or(document: _Document, field: str, default: Any) -> Any:
    """A field's value; `null` is as good as none."""
    value = document.get(field)
    return default if value is None else value
