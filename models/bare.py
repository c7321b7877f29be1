"""A TorchScript file that is no bundle, made to look like one: `--model FILE.pt --labels FILE --preprocess …`."""

from __future__ import annotations

import zipfile
from pathlib import Path

from models.bundle import ModelBundle, sha256_of
from models.errors import BundleError, EngineError
from models.labels import load_labels
from models.spec import EngineSpec, ModelSpec, PreprocessSpec

KIND = "bare-torchscript"


def bare_bundle(file: Path, labels_file: Path, preprocess: PreprocessSpec, name: str | None = None) -> ModelBundle:
    """The bundle of a bare TorchScript file. Nothing is executed; the engine checks the number of classes.

    Args:
        file: traced or scripted: normalised float [N, 3, crop_size, crop_size] -> logits or probabilities.
        labels_file: one label per class.
        preprocess: how the model's pictures are prepared (`models.presets.read_preprocess`).
        name: of the model; the file's own by default.

    Raises:
        BundleError: a file is missing, or the labels cannot be read; one line that names the file.
        EngineError: the file is damaged, or no TorchScript.
    """
    labels = load_labels(labels_file)
    if not file.is_file():
        raise BundleError(f"{file}: no such file")
    check_archive(file)
    spec = ModelSpec(
        name=name or file.stem,
        architecture="torchscript",
        num_classes=len(labels),
        labels=labels_file.name,
        preprocess=preprocess,
        engine=EngineSpec(kind=KIND, file=file.name, sha256=sha256_of(file)),
        source={"weights": file.name},
    )
    return ModelBundle(spec, labels, file)


def check_archive(file: Path) -> None:
    """Compares every part of a TorchScript file with its checksum; libtorch itself does not.

    Raises:
        EngineError: not a zip archive of TorchScript's making, cut short, or with a changed byte.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    # A damaged directory makes zipfile raise nearly anything: BadZipFile, NotImplementedError, struct.error …
    except Exception:
        raise EngineError(f"{file}: not a TorchScript file, or damaged") from None
    if damaged is not None:
        raise EngineError(f"{file}: damaged, the checksum of {damaged!r} does not fit")
    if not any(name.endswith("/constants.pkl") for name in names):
        raise EngineError(f"{file}: no TorchScript; weights alone go through optimize_model_for_inference.py")
