"""Where weights come from: torchvision's pretrained ones, a checkpoint, or random ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torchvision
from rich.console import Console
from torchvision.models import WeightsEnum

from models.architectures import RENORMALISING, StateDict, build_network, check_architecture
from models.bundle import ModelBundle, sha256_of
from models.errors import ModelError
from models.labels import Labels, load_labels
from models.optimize.checkpoint import read_checkpoint
from models.optimize.download import CONNECT_LIMIT_S, fetch
from models.optimize.errors import DownloadError, OptimizeError, UsageError
from models.optimize.weights import PublishedInt8, Weights, spec_of, transforms_of
from models.presets import read_preprocess
from models.spec import WEIGHTS_ENGINE

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class WeightsChoice:
    """What was asked for.

    Attributes:
        architecture: torchvision's name.
        weights: "default", "none" for random ones, or a name of torchvision's such as IMAGENET1K_V1.
        checkpoint: a file of weights, which excludes `weights` and needs `labels`.
        checkpoint_key: which weights of that file, where it holds several sets; "" takes the plain model's.
        bundle: a bundle that holds weights; it brings architecture, labels and preprocessing.
        labels: label file; else torchvision's categories.
        preprocess: JSON file with the fields of PreprocessSpec; else torchvision's for this architecture.
        num_classes: only for random weights; 0 is the number of labels.
        seed: only for random weights.
        url_base: where the pretrained files lie instead of at torchvision's address; "" for the latter.
        cache: folder of downloaded files; None is torch.hub's.
        connect_limit_s: seconds that a server has to answer.
        device: where the model will run: "cpu" or "cuda".
        activation: what makes scores of the logits; "auto" is softmax, or the bundle's own.
    """

    architecture: str
    weights: str = "default"
    checkpoint: Path | None = None
    bundle: Path | None = None
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


def resolve(choice: WeightsChoice, console: Console) -> Weights:
    """Gets the weights, downloading them if need be, and checks that they fit.

    Raises:
        UsageError: unknown architecture or weights, a file that does not fit, contradicting options.
        DownloadError: pretrained weights that cannot be downloaded.
    """
    try:
        if choice.bundle is not None:
            return _from_bundle(choice, choice.bundle)
        check_architecture(choice.architecture)
        weights = _weights(choice, console)
        activation = "softmax" if choice.activation == "auto" else choice.activation
        _check_activation(activation, len(weights.labels))
        return dataclasses.replace(weights, activation=activation)
    except OptimizeError:
        raise
    except ModelError as error:
        raise UsageError(str(error)) from None


def _weights(choice: WeightsChoice, console: Console) -> Weights:
    if choice.checkpoint is not None:
        return _from_checkpoint(choice, choice.checkpoint, console)
    return _random(choice) if choice.weights == "none" else _pretrained(choice, console)


def _check_activation(activation: str, num_classes: int) -> None:
    if activation == "softmax" and num_classes == 1:
        raise UsageError("one class: a softmax over one output is always 1; name --activation sigmoid")


def _pretrained(choice: WeightsChoice, console: Console) -> Weights:
    entry = _entry(choice)
    labels = _labels(choice, entry)
    if len(labels) != len(entry.meta["categories"]):
        raise UsageError(
            f"{choice.labels}: {len(labels)} labels for the {len(entry.meta['categories'])} classes of {entry}"
        )
    file = _fetch(choice, entry.url, console)
    source = {"weights": str(entry), "sha256": sha256_of(file)}
    state = _fitting_state(choice, file, len(labels), console)
    weights = _with_preprocess(choice, entry, state, labels, source)
    # Published for torchvision's preprocessing and classes only.
    plain = choice.preprocess is None and not weights.transform_input
    return dataclasses.replace(weights, published=_published(choice, entry, console)) if plain else weights


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


def _from_checkpoint(choice: WeightsChoice, file: Path, console: Console) -> Weights:
    if choice.weights != "default":
        raise UsageError("--checkpoint and --weights exclude each other")
    if choice.labels is None:
        raise UsageError(f"--checkpoint {file} needs --labels FILE, with one label per class")
    labels = load_labels(choice.labels)
    state = _fitting_state(choice, file, len(labels), console)
    source = {"weights": file.name, "sha256": sha256_of(file)}
    return _with_preprocess(choice, _entry(choice), state, labels, source)


def _from_bundle(choice: WeightsChoice, folder: Path) -> Weights:
    given = choice.checkpoint or choice.labels or choice.preprocess or choice.weights != "default"
    if given or choice.activation != "auto":
        raise UsageError("--bundle brings its own weights, labels, preprocessing and activation")
    bundle = ModelBundle.load(folder)
    if not bundle.spec.engine.holds_weights:
        bundle = bundle.with_engine(WEIGHTS_ENGINE)
    spec = bundle.spec
    state = _fitting_state(WeightsChoice(spec.architecture), bundle.file, spec.num_classes, Console(quiet=True))
    preset = _entry(WeightsChoice(spec.architecture)).transforms()
    transforms = transforms_of(spec.preprocess, preset)
    return Weights(
        spec.architecture,
        state,
        bundle.labels,
        spec.preprocess,
        transforms,
        source=spec.source,
        name=spec.name,
        example=spec.example,
        activation=spec.activation,
    )


def from_state_file(architecture: str, file: Path, num_classes: int) -> Weights:
    """Like a checkpoint, without labels. Raises UsageError."""
    choice = WeightsChoice(architecture)
    try:
        check_architecture(architecture)
    except ModelError as error:
        raise UsageError(str(error)) from None
    state = _fitting_state(choice, file, num_classes, Console(stderr=True))
    return _with_preprocess(choice, _entry(choice), state, _numbered(num_classes), {"weights": file.name})


def _fitting_state(choice: WeightsChoice, file: Path, num_classes: int, console: Console) -> StateDict:
    expected = build_network(choice.architecture, num_classes).state_dict()
    try:
        found = read_checkpoint(file, expected, choice.checkpoint_key)
    except UsageError as error:
        given = f"as {choice.architecture} with {num_classes} classes"
        raise UsageError(str(error).replace(f"{file}: ", f"{file}: {given}: ", 1)) from None
    if found.note:
        console.print(found.note, markup=False, highlight=False, soft_wrap=True)
    return found.state


def _numbered(num_classes: int) -> Labels:
    return tuple(f"class {index}" for index in range(num_classes))


def _random(choice: WeightsChoice) -> Weights:
    entry = _entry(dataclasses.replace(choice, weights="default"))
    labels = _labels(choice, entry)
    if choice.num_classes not in (0, len(labels)):
        if choice.labels is not None:
            raise UsageError(f"{choice.labels}: {len(labels)} labels, but --num-classes {choice.num_classes}")
        labels = _numbered(choice.num_classes)
    state = random_state(choice.architecture, len(labels), choice.seed)
    source = {"weights": "none", "seed": choice.seed, "random": True}
    return _with_preprocess(choice, entry, state, labels, source, renormalises=False)


def random_state(architecture: str, num_classes: int, seed: int) -> StateDict:
    """torchvision's initial weights after `torch.manual_seed(seed)`; the global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_network(architecture, num_classes).state_dict()


def _entry(choice: WeightsChoice) -> WeightsEnum:
    enum = torchvision.models.get_model_weights(choice.architecture)
    names = ["default", "none", *(entry.name for entry in enum)]
    if choice.weights not in names:
        raise UsageError(f"--weights {choice.weights!r}: must be one of {', '.join(names)}")
    entry: WeightsEnum = enum.DEFAULT if choice.weights == "default" else enum[choice.weights]
    return entry


def _labels(choice: WeightsChoice, entry: WeightsEnum) -> Labels:
    return tuple(entry.meta["categories"]) if choice.labels is None else load_labels(choice.labels)


def _with_preprocess(
    choice: WeightsChoice,
    entry: WeightsEnum,
    state: StateDict,
    labels: Labels,
    source: Mapping[str, Any],
    renormalises: bool = True,
) -> Weights:
    """Adds torchvision's preprocessing, or the file's where one is named; the file's is taken literally."""
    transforms = entry.transforms()
    if choice.preprocess is not None:
        spec = read_preprocess(str(choice.preprocess))
        transforms = transforms_of(spec, transforms)
        return Weights(choice.architecture, state, labels, spec, transforms, False, source)
    spec = spec_of(transforms)
    renormalises = renormalises and choice.architecture in RENORMALISING
    if renormalises:
        spec = dataclasses.replace(spec, mean=_HALF, std=_HALF)
    return Weights(choice.architecture, state, labels, spec, transforms, renormalises, source)
