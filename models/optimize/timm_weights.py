"""timm's pretrained weights from its hub, and what belongs to them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import torch
import torchvision
from PIL import Image
from rich.console import Console

from models.labels import Labels
from models.optimize.choice import WeightsChoice
from models.optimize.defaults import Defaults, check_label_count
from models.optimize.errors import DownloadError, UsageError
from models.optimize.weights import Weights
from models.preprocess_files import library_preprocess
from models.spec import PreprocessSpec
from models.timm_networks import name_of

_IMAGENET_CLASSES = 1000


class EvalTransforms:
    """timm's eval transform of an RGB image -> float [3, crop, crop], normalised."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """config: as `timm.data.resolve_data_config` gives it."""
        from timm.data import create_transform

        self._transform = create_transform(**config, is_training=False)
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])

    def __call__(self, image: Image.Image) -> torch.Tensor:
        values: torch.Tensor = self._transform(image)
        return values


def defaults(choice: WeightsChoice) -> Defaults:
    """What timm's weights of that name are used with. Raises UsageError where it is not known or not possible."""
    from timm.data import resolve_data_config

    facts = _facts(choice)
    config = resolve_data_config(pretrained_cfg=facts)
    return Defaults(_labels(choice, facts), _preprocess(choice, config), EvalTransforms(config))


def pretrained(choice: WeightsChoice, console: Console) -> Weights:
    """Downloads them unless the hub's cache (HF_HOME) has them. Raises DownloadError, UsageError."""
    given, facts = defaults(choice), _facts(choice)
    if choice.weights != "default":
        raise UsageError(f"--weights {choice.weights}: timm's are chosen by the name, {choice.architecture}.TAG")
    if not facts.get("num_classes"):
        raise UsageError(f"{choice.architecture}: timm has no pretrained classifier of that name")
    labels = given.chosen_labels(choice)
    check_label_count(choice, labels, facts["num_classes"])
    name = name_of(choice.architecture)
    console.print(f"Fetching {name} from timm's hub", highlight=False, soft_wrap=True)
    state = _download(choice, name)
    tag = f".{facts['tag']}" if facts.get("tag") else ""
    weights = given.weights(choice, state, labels, {"weights": f"timm/{name.partition('.')[0]}{tag}"})
    return dataclasses.replace(weights, name=name.partition(".")[0])


def _download(choice: WeightsChoice, name: str) -> Mapping[str, torch.Tensor]:
    for variable in ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"):
        os.environ.setdefault(variable, f"{choice.connect_limit_s:.0f}")
    import timm

    try:
        state: Mapping[str, torch.Tensor] = timm.create_model(name, pretrained=True).state_dict()
        return state
    # The hub's client raises its own, its HTTP library's and the system's exceptions.
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first[:200]}"
        raise DownloadError(f"{choice.architecture}: its weights could not be downloaded ({reason})") from None


def _facts(choice: WeightsChoice) -> dict[str, Any]:
    """timm's record of the pretrained weights, or of the architecture where it has none."""
    import timm

    name = name_of(choice.architecture)
    facts = timm.get_pretrained_cfg(name, allow_unregistered=True)
    if facts is None:
        if "." in name:
            base = name.partition(".")[0]
            tags = ", ".join(each for each in timm.list_pretrained(f"{base}.*")) or "none"
            raise UsageError(f"{choice.architecture}: timm has no such weights of {base}, it has {tags}")
        facts = timm.models.PretrainedCfg()
    record: dict[str, Any] = facts.to_dict()
    return record


def _labels(choice: WeightsChoice, facts: Mapping[str, Any]) -> Labels | None:
    """Of 1,000 classes torchvision's names of ImageNet's, else timm's of ImageNet's larger sets."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    if facts.get("num_classes") == _IMAGENET_CLASSES:
        return imagenet_labels()
    subset = infer_imagenet_subset(dict(facts))
    if subset is None:
        return None
    return tuple(ImageNetInfo(subset).label_descriptions())


def imagenet_labels() -> Labels:
    """The 1,000 classes' names, in torchvision's words."""
    return tuple(torchvision.models.ResNet18_Weights.IMAGENET1K_V1.meta["categories"])


def _preprocess(choice: WeightsChoice, config: Mapping[str, Any]) -> PreprocessSpec:
    plain = {name: list(value) if isinstance(value, tuple) else value for name, value in config.items()}
    return library_preprocess(plain, choice.architecture)
