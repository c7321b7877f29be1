"""The optimiser's options, each written once: flag, default, range and help come from its field."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from models.archives.classifier import has_form
from models.optimize.errors import UsageError
from snapserve.options import OptionParser, Options, build, option

STORE = Path("models/store")
WEIGHTS_URL_VARIABLE = "SNAPSERVE_WEIGHTS_URL_BASE"


@dataclass(frozen=True)
class OptimizeOptions(Options):
    """What to optimise, and how.

    Checked at construction (UsageError).
    """

    error = UsageError

    arch: str = option(
        "resnet18",
        "architecture: a torchvision classifier; timm/NAME; efficientnet_lite0 (ImageNet weights from the package "
        "index); or auto: resnet18, or efficientnet_lite0 if resnet18's weights cannot be downloaded",
    )
    output: Path | None = option(None, f"folder for the bundle; default {STORE}/ARCHITECTURE")
    weights: str = option(
        "default", "default (pretrained), the name of other torchvision weights, or none (random)"
    )
    checkpoint: Path | None = option(None, "state dict with your weights, .safetensors or .pth; needs --labels")
    checkpoint_key: str = option("", "key of the weights in a --checkpoint with several sets, e.g. model_ema")
    from_: Path | None = option(
        None,
        "TorchScript, ONNX (.onnx) or torch.export (.pt2) file, with labels; a Hugging Face model folder; or an "
        "archive of TorchServe with image_classifier (.mar, .tar.gz or unpacked)",
    )
    allow_code: bool = option(False, "let the network of a --from archive run that is a Python class of its own")
    output_name: str = option("", "name or position of the --from file's output that holds the scores")
    bundle: Path | None = option(None, "bundle with weights, to optimise again for this machine")
    labels: Path | None = option(None, "label file: JSON, or one label per line")
    preprocess: Path | None = option(
        None, "imagenet, half, none, raw or a JSON file: resize_size, crop_size, mean …"
    )
    activation: str = option(
        "auto",
        "activation after the network; auto: the bundle's, else softmax; sigmoid: independent labels",
        choices=("auto", "softmax", "sigmoid", "none"),
    )
    num_classes: int = option(
        0, "number of classes of random weights; 0: as many as labels, else ImageNet's", 0, 1_000_000
    )
    seed: int = option(0, "seed of random weights", 0, 2**63 - 1)
    device: str = option("auto", "device that the model will run on", choices=("auto", "cpu", "cuda"))
    engine: str = option("auto", "build only this candidate and eager fp32; auto: select the fastest that passes")
    threads: int = option(0, "most CPU threads; 0: one per core", 0, 1024)
    at_once: int = option(0, "most candidates in memory at once; 0: as many as fit", 0, 1024)
    pictures: Path | None = option(None, "folder of images for calibration and comparison; default images/")
    validation: Path | None = option(None, "folder of images, one sub-folder per label: compare accuracy as well")
    calibration: Path | None = option(
        None, "folder of images for int8 calibration; default: a part of the other images"
    )
    max_images: int = option(
        0, "most images to compare; 0: 1024, or fewer if --budget-s requires it", 0, 1_000_000
    )
    min_agreement: float = option(98.0, "least top-1 agreement of int8 with eager fp32, in percent", 0, 100)
    max_accuracy_drop: float = option(
        0.5, "largest loss of accuracy of lower precisions, in percentage points", 0, 100
    )
    accept_weak_gate: bool = option(False, "allow int8 that was compared on fewer than 256 images")
    weights_url_base: str = option(
        "", f"URL of a mirror of torchvision's weight files (also {WEIGHTS_URL_VARIABLE})"
    )
    budget_s: float = option(0.0, "time limit for the whole command, in seconds; 0: none", 0, 86_400)
    if_missing: bool = option(False, "do nothing if --output holds a valid bundle for this machine")
    force: bool = option(False, "replace an existing bundle")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pictures and self.validation:
            raise UsageError("--pictures and --validation exclude each other")
        for name in ("pictures", "validation", "calibration"):
            folder = getattr(self, name)
            if folder is not None and not folder.is_dir():
                raise UsageError(f"--{name} {folder}: no such folder")
        if self.checkpoint_key and self.checkpoint is None:
            raise UsageError("--checkpoint-key is for --checkpoint only")
        self._check_from()
        if self.allow_code and not self.archive:
            raise UsageError("--allow-code is for an archive of TorchServe (--from FILE.mar) only")
        if self.num_classes and self.weights != "none":
            raise UsageError("--num-classes is for --weights none only")

    def _check_from(self) -> None:
        if self.from_ is None:
            if self.output_name:
                raise UsageError("--output-name is for --from FILE only")
            return
        if option := self._changed("arch", "weights", "checkpoint", "bundle", "num_classes"):
            raise UsageError(f"--from brings architecture and weights; leave out {option}")
        if self.archive:
            if option := self._changed("labels", "preprocess", "activation", "output_name"):
                raise UsageError(f"--from {self.from_}: an archive brings its own; leave out {option}")
            if self.device == "cuda":
                raise UsageError(f"--from {self.from_} is for a CPU; on a GPU serve the archive as it is")
        if self.device == "cuda" and self.program:
            raise UsageError("--from FILE is for a CPU; on a GPU: python -m server --model FILE --device cuda")

    def _changed(self, *names: str) -> str:
        """The first of these options that has another value than its default, as a flag; "" for none."""
        changed = (name for name in names if getattr(self, name) != getattr(type(self), name))
        return next((f"--{name.replace('_', '-')}" for name in changed), "")

    @property
    def archive(self) -> Path | None:
        """`--from`, where it is an archive of TorchServe."""
        return self.from_ if self.from_ and has_form(self.from_) else None

    @property
    def program(self) -> Path | None:
        """`--from`, unless it is a folder or an archive."""
        return None if self.from_ is None or self.from_.is_dir() or self.archive else self.from_

    @property
    def brings_program(self) -> bool:
        """Whether `--from` is a file or an archive, whose network is a program."""
        return self.program is not None or self.archive is not None

    @property
    def folder(self) -> Path:
        """Where the bundle goes; for "auto" that is known when the weights are."""
        if self.from_:
            name = self.from_.resolve().name
            return self.output or STORE / Path(name.removesuffix(".gz") if self.archive else name).stem
        return self.output or STORE / (self.bundle.resolve().name if self.bundle else self.arch.rpartition("/")[2])


def parse(arguments: Sequence[str] | None, environment: Mapping[str, str]) -> OptimizeOptions:
    """Reads the command line; the environment only fills in the mirror's address.

    Raises:
        UsageError: an unknown option or a wrong value.
        SystemExit: after --help.
    """
    parser = OptionParser(
        UsageError,
        prog="optimize_model_for_inference.py",
        description="Optimises an image classifier for this machine and writes it as a bundle.",
    )
    parser.add_options(OptimizeOptions)
    # Other variables, such as SNAPSERVE_DEVICE, are the server's.
    mirror = {name: text for name, text in environment.items() if name == WEIGHTS_URL_VARIABLE}
    return build(OptimizeOptions, vars(parser.parse_args(arguments)), mirror, {})
