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

_MIRROR_HELP = f"address of a mirror of torchvision's weight files (also {WEIGHTS_URL_VARIABLE})"
_ARCH_HELP = (
    "torchvision's classification architecture; timm/NAME; efficientnet_lite0, whose ImageNet weights come from "
    "the package index; or auto: resnet18 if its weights can be downloaded, else efficientnet_lite0"
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
    output: Annotated[Path | None, f"folder of the bundle; default {STORE}/NAME of the architecture"] = None
    weights: Annotated[str, "'default' (pretrained), another of torchvision's by name, 'none' (random)"] = (
        "default"
    )
    checkpoint: Annotated[Path | None, "own weights: a state dict, .safetensors or .pth; needs --labels"] = None
    checkpoint_key: Annotated[str, "which weights of --checkpoint, where it holds several, e.g. model_ema"] = ""
    from_: Annotated[
        Path | None,
        "own model: a TorchScript, ONNX (.onnx) or torch.export (.pt2) file, which needs labels; or a folder of "
        "Hugging Face",
    ] = None
    output_name: Annotated[str, "of several outputs of --from the one with the scores: name or position"] = ""
    bundle: Annotated[Path | None, "a bundle that holds weights, to optimise it (anew) for this machine"] = None
    labels: Annotated[Path | None, "label file: one per line, or JSON"] = None
    preprocess: Annotated[
        Path | None, "imagenet, half, none, raw or a JSON file: resize_size, crop_size, mean …"
    ] = None
    activation: Annotated[
        Literal["auto", "softmax", "sigmoid", "none"],
        "what makes scores of the outputs; auto: softmax, or a bundle's own; sigmoid: several labels may hold",
    ] = "auto"
    num_classes: Annotated[int, "classes of random weights; 0: ImageNet's, or as many as labels"] = 0
    seed: Annotated[int, "seed of random weights"] = 0
    device: Annotated[Literal["auto", "cpu", "cuda"], "where the model will run"] = "auto"
    engine: Annotated[str, "build only this candidate (and eager fp32); 'auto' takes the fastest that passes"] = (
        "auto"
    )
    threads: Annotated[int, "most threads on a CPU; 0: one per core"] = 0
    at_once: Annotated[int, "most candidates in memory at the same time; 0: as many as fit"] = 0
    pictures: Annotated[Path | None, "folder of photos to calibrate on and compare; default images/"] = None
    validation: Annotated[Path | None, "folder of photos with a sub-folder per label: also compares accuracy"] = (
        None
    )
    calibration: Annotated[Path | None, "folder of photos for int8 only; default: a part of the others"] = None
    max_pictures: Annotated[int, "most pictures to compare; 0: 1024, or as many as --budget-s leaves time for"] = 0
    min_agreement: Annotated[float, "least agreement of int8 with eager fp32, in percent"] = 98.0
    max_accuracy_drop: Annotated[float, "most accuracy that a lower precision may lose, in points"] = 0.5
    accept_weak_gate: Annotated[bool, "choose int8 even if fewer than 256 pictures prove it"] = False
    weights_url_base: Annotated[str, _MIRROR_HELP] = ""
    budget_s: Annotated[float, "seconds for everything, spent where it decides; 0: without a limit"] = 0.0
    if_missing: Annotated[bool, "do nothing when --output holds a sound bundle already"] = False
    force: Annotated[bool, "replace a bundle that is there"] = False

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
