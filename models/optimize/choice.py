"""What weights were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models.optimize.archive_source import ArchiveSource
from models.optimize.download import CONNECT_LIMIT_S

AUTO = "auto"
AUTOMATIC = ("resnet18", "efficientnet_lite0")  # what it stands for, the first that can be had


def needs_timm(architecture: str) -> bool:
    """Whether the network is, or may become, one of timm's."""
    return architecture == AUTO or architecture in AUTOMATIC[1:] or architecture.startswith("timm/")


@dataclass(frozen=True)
class WeightsChoice:
    """What was asked for.

    Attributes:
        architecture: torchvision's name, timm's behind "timm/", one of `models.optimize.packaged_weights`, or
            "auto": ResNet18, or EfficientNet-Lite0 where its weights cannot be downloaded.
        weights: "default", "none" for random ones, or a name of torchvision's such as IMAGENET1K_V1.
        checkpoint: a file of weights, which excludes `weights` and needs `labels`.
        checkpoint_key: which weights of that file, where it holds several sets; "" takes the plain model's.
        bundle: a bundle that holds weights; it brings architecture, labels and preprocessing.
        folder: a folder of Hugging Face, which brings the same; labels, preprocessing and activation may be named.
        labels: label file; else those of the pretrained weights.
        preprocess: a preset's name or a file; else what the architecture's pretrained weights have.
        num_classes: only for random weights; 0 is the number of labels.
        seed: only for random weights.
        url_base: where the pretrained files lie instead of at torchvision's address; "" for the latter.
        cache: folder of downloaded files; None is torch.hub's.
        connect_limit_s: seconds that a server has to answer.
        device: where the model will run: "cpu" or "cuda".
        activation: what makes scores of the logits; "auto" is softmax, or the bundle's own.
        options: further arguments of the architecture's builder.
        program: a TorchScript, ONNX or torch.export file, which brings architecture and weights.
        output_name: which of its outputs holds the scores; "" is found out.
        archive: an archive of TorchServe, which brings all of this.
    """

    architecture: str
    weights: str = "default"
    checkpoint: Path | None = None
    bundle: Path | None = None
    folder: Path | None = None
    labels: Path | None = None
    preprocess: Path | None = None
    num_classes: int = 0
    seed: int = 0
    url_base: str = ""
    cache: Path | None = None
    connect_limit_s: float = CONNECT_LIMIT_S
    device: str = "cpu"
    checkpoint_key: str = ""
    activation: str = "auto"
    options: Mapping[str, Any] = field(default_factory=dict)
    program: Path | None = None
    output_name: str = ""
    archive: ArchiveSource | None = None
