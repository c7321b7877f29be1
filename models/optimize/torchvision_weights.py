"""torchvision's pretrained weights, and what belongs to them."""

from __future__ import annotations

import dataclasses
from contextlib import suppress
from pathlib import Path

import torch
import torchvision
from rich.console import Console
from torchvision.models import WeightsEnum

from models.bundles.bundle import sha256_of
from models.networks.architectures import RENORMALISING
from models.optimize.checkpoint import fitting_state
from models.optimize.choice import WeightsChoice
from models.optimize.defaults import Defaults, check_label_count
from models.optimize.download import fetch
from models.optimize.errors import DownloadError, UsageError
from models.optimize.weights import PublishedInt8, Weights, spec_of


def defaults(choice: WeightsChoice) -> Defaults:
    """What torchvision's weights of that name are used with. Raises UsageError where there are none."""
    entry = _entry(choice)
    transforms = entry.transforms()
    renormalises = choice.architecture in RENORMALISING
    return Defaults(tuple(entry.meta["categories"]), spec_of(transforms), transforms, renormalises)


def pretrained(choice: WeightsChoice, console: Console) -> Weights:
    """Downloads them unless they are in the cache. Raises DownloadError, UsageError."""
    entry, given = _entry(choice), defaults(choice)
    labels = given.chosen_labels(choice)
    check_label_count(choice, labels, len(entry.meta["categories"]))
    file = _fetch(choice, entry.url, console)
    source = {"weights": str(entry), "sha256": sha256_of(file)}
    weights = given.weights(choice, fitting_state(file, choice, len(labels), console), labels, source)
    # Published for torchvision's preprocessing and classes only.
    plain = choice.preprocess is None and not weights.transform_input
    return dataclasses.replace(weights, published=_published(choice, entry, console)) if plain else weights


def _entry(choice: WeightsChoice) -> WeightsEnum:
    enum = torchvision.models.get_model_weights(choice.architecture)
    name = "default" if choice.weights == "none" else choice.weights
    names = ["default", "none", *(entry.name for entry in enum)]
    if name not in names:
        raise UsageError(f"--weights {name!r}: must be one of {', '.join(names)}")
    entry: WeightsEnum = enum.DEFAULT if name == "default" else enum[name]
    return entry


def _fetch(choice: WeightsChoice, url: str, console: Console) -> Path:
    if choice.url_base:
        url = f"{choice.url_base.rstrip('/')}/{url.rpartition('/')[2]}"
    cache = choice.cache or Path(torch.hub.get_dir()) / "checkpoints"
    return fetch(url, cache, console, choice.connect_limit_s)


def _published(choice: WeightsChoice, entry: WeightsEnum, console: Console) -> PublishedInt8 | None:
    """torchvision's int8 weights that were made from `entry`; None where there are none, or no network."""
    name = f"quantized_{choice.architecture}"
    if choice.device != "cpu" or name not in torchvision.models.list_models(
        module=torchvision.models.quantization
    ):
        return None
    for each in torchvision.models.get_model_weights(name):
        if each.meta["unquantized"] == entry:
            with suppress(DownloadError):
                file = _fetch(choice, each.url, console)
                accuracies = _accuracy(each), _accuracy(entry)
                reduce_range = each.meta["backend"] == "fbgemm"
                return PublishedInt8(choice.architecture, file, str(each), *accuracies, reduce_range)
    return None


def _accuracy(entry: WeightsEnum) -> float:
    return float(entry.meta["_metrics"]["ImageNet-1K"]["acc@1"]) / 100
