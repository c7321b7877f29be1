"""The optimiser's options, each written once: flag, default and help come from its field."""

from __future__ import annotations

import types
import typing
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from models.optimize.errors import UsageError

STORE = Path("models/store")
WEIGHTS_URL_VARIABLE = "SNAPSERVE_WEIGHTS_URL_BASE"

_MIRROR_HELP = f"URL of a mirror of torchvision's weight files (also {WEIGHTS_URL_VARIABLE})"
_ARCH_HELP = (
    "architecture: a torchvision classifier; timm/NAME; efficientnet_lite0 (ImageNet weights from the package "
    "index); or auto: resnet18, or efficientnet_lite0 if resnet18's weights cannot be downloaded"
)

_HIGHEST = {
    "threads": 1024,
    "at_once": 1024,
    "num_classes": 1_000_000,
    "seed": 2**63 - 1,
    "max_pictures": 1_000_000,
    "min_agreement": 100,
    "max_accuracy_drop": 100,
    "budget_s": 86_400,
}


@dataclass(frozen=True)
class OptimizeOptions:
    """What `optimize_model_for_inference.py` is told; checked at construction (UsageError)."""

    arch: Annotated[str, _ARCH_HELP] = "resnet18"
    output: Annotated[Path | None, f"folder for the bundle; default {STORE}/ARCHITECTURE"] = None
    weights: Annotated[str, "default (pretrained), the name of other torchvision weights, or none (random)"] = (
        "default"
    )
    checkpoint: Annotated[Path | None, "state dict with your weights, .safetensors or .pth; needs --labels"] = None
    checkpoint_key: Annotated[str, "key of the weights in a --checkpoint with several sets, e.g. model_ema"] = ""
    from_: Annotated[
        Path | None,
        "TorchScript, ONNX (.onnx) or torch.export (.pt2) file, with labels; or a Hugging Face model folder",
    ] = None
    output_name: Annotated[str, "name or position of the --from file's output that holds the scores"] = ""
    bundle: Annotated[Path | None, "bundle with weights, to optimise again for this machine"] = None
    labels: Annotated[Path | None, "label file: JSON, or one label per line"] = None
    preprocess: Annotated[
        Path | None, "imagenet, half, none, raw or a JSON file: resize_size, crop_size, mean …"
    ] = None
    activation: Annotated[
        Literal["auto", "softmax", "sigmoid", "none"],
        "activation after the network; auto: the bundle's, else softmax; sigmoid: independent labels",
    ] = "auto"
    num_classes: Annotated[int, "number of classes of random weights; 0: as many as labels, else ImageNet's"] = 0
    seed: Annotated[int, "seed of random weights"] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], "device that the model will run on"] = "auto"
    engine: Annotated[str, "build only this candidate and eager fp32; auto: select the fastest that passes"] = (
        "auto"
    )
    threads: Annotated[int, "most CPU threads; 0: one per core"] = 0
    at_once: Annotated[int, "most candidates in memory at once; 0: as many as fit"] = 0
    pictures: Annotated[Path | None, "folder of images for calibration and comparison; default images/"] = None
    validation: Annotated[Path | None, "folder of images, one sub-folder per label: compare accuracy as well"] = (
        None
    )
    calibration: Annotated[
        Path | None, "folder of images for int8 calibration; default: a part of the other images"
    ] = None
    max_pictures: Annotated[int, "most images to compare; 0: 1024, or fewer if --budget-s requires it"] = 0
    min_agreement: Annotated[float, "least top-1 agreement of int8 with eager fp32, in percent"] = 98.0
    max_accuracy_drop: Annotated[float, "largest loss of accuracy of lower precisions, in percentage points"] = 0.5
    accept_weak_gate: Annotated[bool, "allow int8 that was compared on fewer than 256 images"] = False
    weights_url_base: Annotated[str, _MIRROR_HELP] = ""
    budget_s: Annotated[float, "time limit for the whole command, in seconds; 0: none"] = 0.0
    if_missing: Annotated[bool, "do nothing if --output holds a valid bundle for this machine"] = False
    force: Annotated[bool, "replace an existing bundle"] = False

    def __post_init__(self) -> None:
        for name, limit in _HIGHEST.items():
            value = getattr(self, name)
            if not 0 <= value <= limit:
                raise UsageError(f"--{name.replace('_', '-')} {value}: must lie between 0 and {limit}")
        if self.pictures and self.validation:
            raise UsageError("--pictures and --validation exclude each other")
        for name in ("pictures", "validation", "calibration"):
            folder = getattr(self, name)
            if folder is not None and not folder.is_dir():
                raise UsageError(f"--{name} {folder}: no such folder")
        if self.checkpoint_key and self.checkpoint is None:
            raise UsageError("--checkpoint-key is for --checkpoint only")
        self._check_from()
        if self.num_classes and self.weights != "none":
            raise UsageError("--num-classes is for --weights none only")

    def _check_from(self) -> None:
        if self.from_ is None:
            if self.output_name:
                raise UsageError("--output-name is for --from FILE only")
            return
        for name in ("arch", "weights", "checkpoint", "bundle", "num_classes"):
            if getattr(self, name) != getattr(type(self), name):
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"--from brings architecture and weights; leave out {option}")
        if self.device == "cuda" and self.program:
            raise UsageError("--from FILE is for a CPU; on a GPU: python -m server --model FILE --device cuda")

    @property
    def program(self) -> Path | None:
        """`--from`, unless it is a folder."""
        return None if self.from_ is None or self.from_.is_dir() else self.from_

    @property
    def folder(self) -> Path:
        """Where the bundle goes; for "auto" that is known when the weights are."""
        if self.from_:
            return self.output or STORE / self.from_.resolve().stem
        return self.output or STORE / (self.bundle.resolve().name if self.bundle else self.arch.rpartition("/")[2])


def parse(arguments: list[str] | None, environment: Mapping[str, str]) -> OptimizeOptions:
    """Reads the command line; the environment only fills in the mirror's address.

    Raises:
        UsageError: a value is outside its limits.
        SystemExit: 2 for an unknown option, 0 after --help.
    """
    parser = ArgumentParser(
        prog="optimize_model_for_inference.py",
        description="Optimises an image classifier for this machine and writes it as a bundle.",
        allow_abbrev=False,
    )
    hints = typing.get_type_hints(OptimizeOptions, include_extras=True)
    for entry in fields(OptimizeOptions):
        _add(parser, entry.name, hints[entry.name], entry.default)
    values = vars(parser.parse_args(arguments))
    values["weights_url_base"] = values["weights_url_base"] or environment.get(WEIGHTS_URL_VARIABLE, "")
    return OptimizeOptions(**values)


def _add(parser: ArgumentParser, name: str, hint: Any, default: Any) -> None:
    kind, text = typing.get_args(hint)
    flag = f"--{name.rstrip('_').replace('_', '-')}"
    if kind is bool:
        parser.add_argument(flag, action="store_true", help=text)
        return
    text += f" [{default}]" if default not in (None, "") else ""
    if typing.get_origin(kind) is Literal:
        parser.add_argument(flag, choices=typing.get_args(kind), default=default, help=text)
        return
    kind = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    metavar = {str: "TEXT", int: "N", float: "X", Path: "PATH"}[kind]
    parser.add_argument(flag, dest=name, type=kind, default=default, help=text, metavar=metavar)
