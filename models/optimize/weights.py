"""Weights with all that belongs to them, and their library's own way to use them as the reference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image
from torch import nn
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F

from models.bundles.labels import Labels
from models.bundles.spec import SQUASH, EngineSpec, PreprocessSpec
from models.networks.architectures import StateDict, build_network, load_weights
from models.optimize.weights_file import write_weights

NETWORK = "network"


@dataclass(frozen=True)
class PublishedInt8:
    """int8 weights that torchvision has published for the same model.

    Attributes:
        architecture: torchvision's name.
        file: state dict of its quantised network.
        name: of the weights.
        accuracy: top-1 on ImageNet, 0 … 1.
        reference_accuracy: likewise of the fp32 weights that they were made from.
        reduce_range: whether their activations have 7 bits: those for FBGEMM do, those for QNNPACK do not.
    """

    architecture: str
    file: Path
    name: str
    accuracy: float
    reference_accuracy: float
    reduce_range: bool = True


class Transforms(Protocol):
    """How the library that the weights come from prepares an RGB image: -> float [3, crop, crop], normalised."""

    @property
    def mean(self) -> Sequence[float]:
        """What the normalisation takes away, per channel, of values in 0 … 1."""
        ...

    @property
    def std(self) -> Sequence[float]:
        """What it divides by, likewise."""
        ...

    def __call__(self, image: Image.Image, /) -> torch.Tensor: ...


class SpecTransforms:
    """A PreprocessSpec done by torchvision: an RGB image -> float [3, crop, crop], normalised."""

    def __init__(self, spec: PreprocessSpec) -> None:
        self._spec = spec
        self.mean, self.std = spec.mean, spec.std

    def __call__(self, image: Image.Image) -> torch.Tensor:
        spec = self._spec
        sides = [spec.resize_size] * (2 if spec.resize_mode == SQUASH else 1)  # one is the short side
        resized = F.resize(image, sides, InterpolationMode(spec.interpolation), antialias=True)
        cropped = F.pil_to_tensor(F.center_crop(resized, [spec.crop_size]))
        scaled = F.convert_image_dtype(cropped, torch.float32)
        normalised: torch.Tensor = F.normalize(scaled, list(self.mean), list(self.std))
        return normalised


@dataclass(frozen=True)
class Weights:
    """Weights of a classifier.

    Attributes:
        architecture: torchvision's name, or timm's behind "timm/".
        state: tensors by name; they fit the architecture.
        labels: one per class.
        preprocess: how images are prepared for the served model.
        transforms: the reference's preparation: torchvision's ImageClassification preset, say.
        transform_input: whether the network that follows `transforms` renormalises its input
            (`models.networks.architectures.RENORMALISING`); `preprocess` then holds the final mean and std.
        source: for the bundle: where the weights come from.
        name: of the model; the architecture's by default.
        example: image of the project that suits the model; "" takes the usual one.
        published: int8 weights of the same model, if there are any.
        activation: what makes scores of the logits, one of `models.bundles.spec.ACTIVATIONS`.
        options: further arguments of the architecture's builder.
    """

    architecture: str
    state: StateDict
    labels: Labels
    preprocess: PreprocessSpec
    transforms: Transforms
    transform_input: bool = False
    source: Mapping[str, Any] = field(default_factory=dict)
    name: str = ""
    example: str = ""
    published: PublishedInt8 | None = None
    activation: str = "softmax"
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Of all tensors."""
        return sum(tensor.nbytes for tensor in self.state.values())

    def network(self) -> nn.Module:
        """In eval mode, for pixels normalised as `preprocess` says."""
        return self._network(False)

    def reference_network(self) -> nn.Module:
        """In eval mode, as its library builds it, for the output of `transforms`."""
        return self._network(self.transform_input)

    def _network(self, transform_input: bool) -> nn.Module:
        network = build_network(self.architecture, len(self.labels), transform_input, self.options)
        return load_weights(network, self.state)

    @property
    def source_kind(self) -> str:
        """What candidates start from: "network", or one of `models.networks.programs.FORMATS`."""
        return NETWORK

    @property
    def precision(self) -> str:
        """Of the reference."""
        return "fp32"

    @property
    def reference(self) -> str:
        """What candidates are compared with, in words."""
        return "eager fp32"

    def portable_engine(self, engines: dict[str, EngineSpec], folder: Path, max_batch_size: int) -> EngineSpec:
        """Writes what runs on any machine, for the bundle in `folder` that has `engines` already."""
        return write_weights(self.network(), folder, max_batch_size)

    def scores(self, logits: torch.Tensor) -> torch.Tensor:
        """The reference's scores. logits: float [N, num_classes]."""
        if self.activation == "softmax":
            return logits.softmax(dim=1)
        return logits.sigmoid() if self.activation == "sigmoid" else logits

    def reference_pixels(self, image: Image.Image) -> torch.Tensor:
        """The reference's resize and crop of an upright RGB image: float [crop, crop, 3], 0 … 255."""
        mean, std = torch.tensor(self.transforms.mean), torch.tensor(self.transforms.std)
        pixels: torch.Tensor = (self.transforms(image).permute(1, 2, 0) * std + mean) * 255
        return pixels

    def reference_input(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 [N, crop, crop, 3] -> float32 [N, 3, crop, crop], normalised as by `transforms`."""
        scaled = F.convert_image_dtype(pixels.permute(0, 3, 1, 2).contiguous(), torch.float32)
        normalised: torch.Tensor = F.normalize(scaled, list(self.transforms.mean), list(self.transforms.std))
        return normalised


def spec_of(transforms: Any) -> PreprocessSpec:
    """The geometry and normalisation of torchvision's ImageClassification preset."""
    return PreprocessSpec(
        resize_size=transforms.resize_size[0],
        crop_size=transforms.crop_size[0],
        interpolation=transforms.interpolation.value,
        mean=tuple(transforms.mean),
        std=tuple(transforms.std),
    )
