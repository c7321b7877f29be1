"""timm's pretrained weights from its hub, and what belongs to them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
import torchvision
from PIL import Image
from rich.console import Console

from models.bundles.labels import Labels
from models.bundles.spec import PreprocessSpec
from models.images.preprocess_files import library_preprocess
from models.networks.timm_networks import name_of
from models.optimize.choice import WeightsChoice
from models.optimize.defaults import Defaults, check_label_count
from models.optimize.download import check_reachable
from models.optimize.errors import DownloadError, UsageError
from models.optimize.weights import Weights

_IMAGENET_CLASSES = 1000
_FILE = "model.safetensors"


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
    state = _download(choice, facts)
    tag = f".{facts['tag']}" if facts.get("tag") else ""
    weights = given.weights(choice, state, labels, {"weights": f"timm/{name.partition('.')[0]}{tag}"})
    return dataclasses.replace(weights, name=name.partition(".")[0])


def _download(choice: WeightsChoice, facts: Mapping[str, Any]) -> Mapping[str, torch.Tensor]:
    import timm

    overlay = _cached(facts)
    if overlay is None and facts.get("hf_hub_id"):
        # Its client would try for a minute.
        check_reachable(f"{_endpoint()}/{facts['hf_hub_id']}/resolve/main/config.json", choice.connect_limit_s)
    try:
        network = timm.create_model(name_of(choice.architecture), pretrained=True, pretrained_cfg_overlay=overlay)
        state: Mapping[str, torch.Tensor] = network.state_dict()
        return state
    # The hub's client raises its own, its HTTP library's and the system's exceptions.
    except Exception as error:
        first = (str(error).strip().splitlines() or [""])[0]
        reason = f"{type(error).__name__}: {first[:200]}"
        raise DownloadError(f"{choice.architecture}: its weights could not be downloaded ({reason})") from None


def _cached(facts: Mapping[str, Any]) -> dict[str, str] | None:
    """Where the hub's client has put the weights, as timm wants to be told; None where it has not."""
    from huggingface_hub import try_to_load_from_cache

    repository = facts.get("hf_hub_id")
    found = try_to_load_from_cache(repository, _FILE) if repository else None
    return {"file": found} if isinstance(found, str) else None


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _facts(choice: WeightsChoice) -> dict[str, Any]:
    """timm's record of the pretrained weights, or of the architecture where it has none."""
    import timm

    name = name_of(choice.architecture)
    facts = None
    with suppress(RuntimeError):  # no such tag
        facts = timm.get_pretrained_cfg(name)
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
