"""What a model is: the facts of `model.json`, as frozen dataclasses. Knows no torch."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from models.errors import BundleError

FORMAT = 1
MEASURED = 0  # classes of a program without labels: as many as its output has columns

PRECISIONS = ("fp32", "fp16", "bf16", "int8", "fp64")
WEIGHTS_ENGINE = "weights"  # name in a bundle of the engine that is compiled where it is loaded
PROGRAM_KIND = "program"  # engine that runs a file as it was given to the optimiser
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
SHORTEST, SQUASH = "shortest", "squash"
RESIZE_MODES = (SHORTEST, SQUASH)
_LARGEST_SIDE = 8192  # pixels
_LARGEST_MEAN = 2.0  # of values 0 to 1
ACTIVATIONS = ("softmax", "sigmoid", "none")


@dataclass(frozen=True)
class PreprocessSpec:
    """The geometry and normalisation that the model was trained with (torchvision's `weights.transforms()`).

    Attributes:
        resize_size: length in pixels of the image's short side after the resize; with "squash" of both sides.
        crop_size: side in pixels of the centre crop; at most `resize_size`.
        interpolation: one of `INTERPOLATIONS`; always antialiased.
        mean: per channel (RGB), of values in 0 … 1.
        std: per channel (RGB), of values in 0 … 1.
        resize_mode: one of `RESIZE_MODES`: "shortest" keeps the aspect, "squash" does not.
    """

    resize_size: int
    crop_size: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    resize_mode: str = SHORTEST

    def __post_init__(self) -> None:
        if not 1 <= self.crop_size <= self.resize_size:
            raise BundleError(
                f"preprocess: crop_size {self.crop_size} must lie between 1 and resize_size {self.resize_size}"
            )
        if self.resize_size > _LARGEST_SIDE:
            raise BundleError(f"preprocess: resize_size {self.resize_size} must be at most {_LARGEST_SIDE}")
        if self.interpolation not in INTERPOLATIONS:
            raise BundleError(
                f"preprocess: interpolation {self.interpolation!r} must be one of {', '.join(INTERPOLATIONS)}"
            )
        if self.resize_mode not in RESIZE_MODES:
            raise BundleError(
                f"preprocess: resize_mode {self.resize_mode!r} must be one of {', '.join(RESIZE_MODES)}"
            )
        if not all(map(math.isfinite, (*self.mean, *self.std))) or min(self.std) <= 0:
            raise BundleError("preprocess: mean and std must be finite, and std above 0")
        if (largest := max(map(abs, self.mean))) > _LARGEST_MEAN:
            raise BundleError(
                f"preprocess: mean {largest:g} is of values 0 to 255; mean and std must be of values 0 to 1, so "
                "divide both by 255"
            )

    def describe(self) -> str:
        """Size and normalisation in one line, e.g. "resize 256, crop 224, bilinear, mean 0.5, std 0.5"."""
        mean, std = _shown(self.mean), _shown(self.std)
        name = f" ({_NORMALISATIONS[mean, std]})" if (mean, std) in _NORMALISATIONS else ""
        squash = f" x {self.resize_size} (squash)" if self.resize_mode == SQUASH else ""
        sizes = f"resize {self.resize_size}{squash}, crop {self.crop_size}, {self.interpolation}"
        return f"{sizes}, mean {mean}, std {std}{name}"


def _shown(values: tuple[float, float, float]) -> str:
    return " ".join(f"{value:.4g}" for value in (values if len(set(values)) > 1 else values[:1]))


# What the network gets, by mean and std as `describe` shows them.
_NORMALISATIONS = {
    ("0.485 0.456 0.406", "0.229 0.224 0.225"): "ImageNet's",
    ("0.5", "0.5"): "values -1 to 1",
    ("0", "1"): "values 0 to 1",
    ("0", "0.003922"): "values 0 to 255",
}

IMAGENET = PreprocessSpec(256, 224, "bilinear", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


@dataclass(frozen=True)
class EngineSpec:
    """Which file runs, and how.

    Attributes:
        kind: name in the registry of `models.engines`.
        file: file in the bundle. `.safetensors` holds weights and is traced at start; anything else is
            a compiled graph, uint8 [N, crop, crop, 3] -> probabilities float32 [N, num_classes].
        sha256: of that file, in hexadecimal.
        precision: one of `PRECISIONS`.
        device: "cpu", "cuda", or "any" for weights, which are compiled where they are loaded.
        memory_format: "channels_last" or "contiguous".
        max_batch_size: the largest batch that the bundle was timed for.
        threads: intra-op threads on a CPU with which it was fastest; 0 leaves the choice to the backend.
        streams: parts of a batch that run at the same time, where the backend can do that.
        quantized_engine: torch's backend of the int8 operators, which is chosen when the graph is loaded.
        reduce_range: whether int8 uses 7 bits of one operand, as processors without VNNI need it.
        activation: of a program as it was given, one of `ACTIVATIONS`; "" is found out, or the model's own.
        output: of such a program, which of several outputs holds the scores; "" is found out.
        companions: further files of the engine in the bundle, with their hashes.
    """

    kind: str
    file: str
    sha256: str
    precision: str = "fp32"
    device: str = "any"
    memory_format: str = "channels_last"
    max_batch_size: int = 32
    threads: int = 0
    streams: int = 1
    quantized_engine: str = ""
    reduce_range: bool = False
    activation: str = ""
    output: str = ""
    companions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise BundleError(f"engine: precision {self.precision!r} must be one of {', '.join(PRECISIONS)}")
        if self.max_batch_size < 1:
            raise BundleError(f"engine: max_batch_size {self.max_batch_size} must be at least 1")

    @property
    def holds_weights(self) -> bool:
        """Whether the file holds weights, and no compiled program."""
        return self.file.endswith(".safetensors")

    @property
    def is_portable(self) -> bool:
        """Whether it is compiled where it is loaded, for the machine that it finds there."""
        return self.holds_weights or self.kind == PROGRAM_KIND


@dataclass(frozen=True)
class ModelSpec:
    """Everything that `model.json` says.

    `source`, `fidelity`, `latency_ms` and `built_with` are for people, and so is `example`: an image of the
    project that suits the model, for the banner's curl line.

    Attributes:
        architecture: torchvision's name, or timm's behind "timm/"; of a program, one of
            `models.networks.programs.FORMATS`.
        num_classes: length of a row of scores; `MEASURED`: the engine tells. A bundle always says it.
        architecture_options: further arguments of its builder.
        activation: what makes scores of the outputs, one of `ACTIVATIONS`; compiled graphs contain it.
        engine: what is served; `engines` holds it and others of the same bundle, by name.
        latency_ms: batch size -> milliseconds of one batch.
    """

    name: str
    architecture: str
    num_classes: int
    labels: str
    preprocess: PreprocessSpec
    engine: EngineSpec
    labels_sha256: str | None = None
    architecture_options: Mapping[str, Any] = field(default_factory=dict)
    activation: str = "softmax"
    engines: Mapping[str, EngineSpec] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    fidelity: Mapping[str, Any] = field(default_factory=dict)
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    built_with: Mapping[str, Any] = field(default_factory=dict)
    example: str = "images/cat.jpg"
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise BundleError(f"format {self.format} is not supported, only {FORMAT} is")
        if self.num_classes < MEASURED:
            raise BundleError(f"num_classes {self.num_classes} must be at least 1")
        if self.activation not in ACTIVATIONS:
            raise BundleError(f"activation {self.activation!r} must be one of {', '.join(ACTIVATIONS)}")
        if self.activation == "softmax" and self.num_classes == 1:
            raise BundleError("activation 'softmax' over one class is always 1; it must be sigmoid or none")

    @property
    def is_random(self) -> bool:
        """Whether the weights were never trained, so that the labels mean nothing."""
        return bool(self.source.get("random"))

    def to_json(self) -> dict[str, Any]:
        """The manifest."""
        return dataclasses.asdict(self)


Spec = TypeVar("Spec", PreprocessSpec, EngineSpec, ModelSpec)


def spec_from_json(kind: type[Spec], document: Any, where: str) -> Spec:
    """Builds a spec from parsed JSON; unknown keys are ignored, so that newer bundles stay readable.

    Raises:
        BundleError: a key is missing or has the wrong type; the message begins with `where`.
    """
    if not isinstance(document, dict):
        raise BundleError(f"{where}: expected an object")
    hints = typing.get_type_hints(kind)
    values = {}
    for spec_field in dataclasses.fields(kind):
        if spec_field.name in document:
            values[spec_field.name] = _typed(
                document[spec_field.name], hints[spec_field.name], f"{where}: {spec_field.name!r}"
            )
        elif spec_field.default is dataclasses.MISSING and spec_field.default_factory is dataclasses.MISSING:
            raise BundleError(f"{where}: {spec_field.name!r} is missing")
    try:
        return kind(**values)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from None


def _typed(value: Any, hint: Any, where: str) -> Any:
    if hint in (PreprocessSpec, EngineSpec):
        return spec_from_json(hint, value, where)
    if hint == Mapping[str, EngineSpec] and isinstance(value, dict):
        return {name: spec_from_json(EngineSpec, each, f"{where}: {name!r}") for name, each in value.items()}
    if typing.get_origin(hint) is tuple:
        return _three(value, where)
    if hint is bool:
        return _flag(value, where)
    if isinstance(hint, types.UnionType):
        allowed: tuple[type, ...] = typing.get_args(hint)
    else:
        allowed = (dict,) if typing.get_origin(hint) else (hint,)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise BundleError(f"{where} must be of type {' or '.join(kind.__name__ for kind in allowed)}")
    return value


def _flag(value: Any, where: str) -> bool:
    if isinstance(value, bool):
        return value
    raise BundleError(f"{where} must be true or false")


_HUGE = 1e9


def _three(value: Any, where: str) -> tuple[float, ...]:
    """One number stands for three equal ones: a grey image has one channel."""
    values = value if isinstance(value, list) else [value]
    if len(values) in (1, 3) and all(type(each) in (int, float) and abs(each) < _HUGE for each in values):
        return tuple(float(each) for each in values) * (3 // len(values))
    raise BundleError(f"{where} must be one number or three")
