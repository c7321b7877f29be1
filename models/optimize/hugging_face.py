"""A model's folder as on Hugging Face's Hub: of transformers or of timm."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file

from models.bundles.labels import Labels, labels_of
from models.bundles.spec import PreprocessSpec
from models.bundles.text import read_json
from models.errors import BundleError, ModelError
from models.images.presets import preprocess_of
from models.networks.architectures import StateDict, build_network, misfit_of
from models.networks.timm_networks import PREFIX, build_timm_network
from models.optimize.errors import UsageError
from models.optimize.hugging_face_networks import Config, Network, is_timm, network_of

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED_WEIGHTS = "pytorch_model.bin"

_MULTI_LABEL = "multi_label_classification"
_PROBLEMS = (None, "single_label_classification", _MULTI_LABEL)


@dataclass(frozen=True)
class HuggingFaceModel:
    """A classifier and all that belongs to it.

    Attributes:
        architecture: torchvision's name, or timm's behind "timm/".
        options: of timm's network, for `models.networks.timm_networks.build_timm_network`; JSON can hold them.
        state: tensors by the network's own names; they fit it.
        labels: one per class.
        preprocess: how images are prepared.
        activation: what makes scores of the logits.
    """

    architecture: str
    options: Mapping[str, Any]
    state: StateDict
    labels: Labels
    preprocess: PreprocessSpec
    activation: Literal["softmax", "sigmoid"]


def read_folder(
    folder: Path, labels: Labels | None = None, preprocess: PreprocessSpec | None = None
) -> HuggingFaceModel:
    """Reads a folder that transformers' or timm's `save_pretrained` and the like have written; runs nothing of it.

    Args:
        folder: with `config.json`, `model.safetensors` and, except for timm's, `preprocessor_config.json`.
        labels: instead of the folder's.
        preprocess: instead of the folder's.

    Raises:
        UsageError: a file is missing or damaged, the network is none that is known, or the tensors do not fit it;
            one line that names the file.
    """
    file = folder / CONFIG
    config = _read_object(file, "configuration of the model")
    tensors, source = _tensors(folder)
    labels = labels or _labels(config, file)
    activation = _activation(config, file)
    try:
        network = network_of(config, tensors)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    state = _fitting(network, tensors, len(labels), source)
    preprocess = preprocess or _preprocess(folder, config)
    _check_size(network, preprocess, file)
    return HuggingFaceModel(network.architecture, network.options, state, labels, preprocess, activation)


def _read_object(file: Path, what: str) -> dict[str, Any]:
    try:
        document = read_json(file, what)
    except BundleError as error:
        raise UsageError(str(error)) from None
    if not isinstance(document, dict):
        raise UsageError(f"{file}: expected an object")
    return document


def _fitting(network: Network, tensors: StateDict, num_classes: int, source: Path) -> StateDict:
    """The tensors by the network's names, float32; each of the file is used once."""
    try:
        state = {name: _float32(tensor) for name, tensor in network.renamed(tensors).items()}
        own = _built(network, num_classes).state_dict()
    except ModelError as error:
        raise UsageError(f"{source}: {error}") from None
    left = sorted(state.keys() - own.keys())
    reason = misfit_of(state, own) or (f"{left[0]} is no tensor of the architecture" if left else "")
    if reason:
        raise UsageError(f"{source}: as {network.architecture} with {num_classes} classes: {reason}")
    for name, tensor in state.items():
        if not tensor.isfinite().all():
            raise UsageError(f"{source}: {name} holds values that are not finite: its training has failed")
    return state


def _float32(tensor: torch.Tensor) -> torch.Tensor:
    """Many files hold 16 bits."""
    return tensor.float() if tensor.is_floating_point() else tensor


def _built(network: Network, num_classes: int) -> torch.nn.Module:
    name = network.architecture.removeprefix(PREFIX)
    if name == network.architecture:
        return build_network(name, num_classes)
    return build_timm_network(name, num_classes, network.options)


def _tensors(folder: Path) -> tuple[StateDict, Path]:
    """All tensors, and the file that names them."""
    if (folder / WEIGHTS).is_file():
        return _load(folder / WEIGHTS), folder / WEIGHTS
    if (folder / INDEX).is_file():
        return _sharded(folder / INDEX), folder / INDEX
    if (folder / PICKLED_WEIGHTS).is_file():
        return _load(folder / PICKLED_WEIGHTS), folder / PICKLED_WEIGHTS
    raise UsageError(f"{folder}: no {WEIGHTS}, {INDEX} or {PICKLED_WEIGHTS} in it; download the whole folder")


def _sharded(index: Path) -> StateDict:
    """The tensors of the files that an index names. It names files beside it only."""
    shards = _read_object(index, "index of the weights").get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise UsageError(f"{index}: 'weight_map' must be an object from tensors to files")
    tensors: dict[str, torch.Tensor] = {}
    for name in sorted(set(shards.values())):
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise UsageError(f"{index}: {name!r} is no .safetensors file beside it")
        shard = _load(index.parent / name)
        tensors |= {tensor: value for tensor, value in shard.items() if shards.get(tensor) == name}
    if missing := sorted(shards.keys() - tensors.keys()):
        raise UsageError(f"{index}: {missing[0]} is not in {shards[missing[0]]}; download the folder again")
    return tensors


def _load(file: Path) -> StateDict:
    if not file.is_file():
        raise UsageError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            document = torch.load(file, map_location="cpu", weights_only=True)
    except Exception:  # a damaged file is met with KeyError, struct.error … as it comes
        raise UsageError(f"{file}: damaged, or holds more than weights; save it as {WEIGHTS}") from None
    if not isinstance(document, dict) or not all(isinstance(each, torch.Tensor) for each in document.values()):
        raise UsageError(f"{file}: holds more than names with tensors; save it as {WEIGHTS}")
    return document


def _labels(config: Config, file: Path) -> Labels:
    try:
        return _timm_labels(config, file) if is_timm(config) else _transformers_labels(config, file)
    except BundleError as error:
        raise UsageError(str(error)) from None


def _transformers_labels(config: Config, file: Path) -> Labels:
    if config.get("id2label") is not None:
        return labels_of(config["id2label"], f"{file}: id2label")
    return ("LABEL_0", "LABEL_1")  # transformers leaves them out where they are these


def _timm_labels(config: Config, file: Path) -> Labels:
    cfg = config.get("pretrained_cfg")
    cfg = cfg if isinstance(cfg, dict) else config
    names = config.get("label_names") or cfg.get("label_names")
    descriptions = config.get("label_descriptions") or cfg.get("label_descriptions") or {}
    if names is None:
        return _imagenet_labels(_or(config.get("num_classes"), cfg.get("num_classes")), cfg, file)
    labels = labels_of(names, f"{file}: label_names")
    if not isinstance(descriptions, dict):
        raise UsageError(f"{file}: label_descriptions must be an object")
    return labels_of([descriptions.get(name, name) for name in labels], f"{file}: label_descriptions")


def _imagenet_labels(num_classes: Any, cfg: Config, file: Path) -> Labels:
    """timm's own models leave them out; their tags, e.g. "a1_in1k", name ImageNet."""
    if re.search(r"in\d+k", str(cfg.get("tag", ""))):
        info: Any = import_module("timm.data")
        if subset := info.infer_imagenet_subset({"num_classes": num_classes}):
            return tuple(info.ImageNetInfo(subset).label_descriptions())
    raise UsageError(f"{file}: no label_names in it; name --labels FILE, with one label per class")


def _or(value: Any, other: Any) -> Any:
    return other if value is None else value


def _activation(config: Config, file: Path) -> Literal["softmax", "sigmoid"]:
    problem = config.get("problem_type")
    if problem not in _PROBLEMS:
        raise UsageError(f"{file}: problem_type {problem!r} is not classification")
    return "sigmoid" if problem == _MULTI_LABEL else "softmax"


def _preprocess(folder: Path, config: Config) -> PreprocessSpec:
    file = folder / (CONFIG if is_timm(config) else PROCESSOR)
    try:
        return preprocess_of(read_json(file, "configuration of the image processor"), str(file))
    except BundleError as error:
        raise UsageError(str(error)) from None


def _check_size(network: Network, preprocess: PreprocessSpec, file: Path) -> None:
    side = preprocess.crop_size
    if network.image_size not in (0, side):
        raise UsageError(f"{file}: the network is for images of {network.image_size} pixels, which become {side}")
