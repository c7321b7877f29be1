"""A TorchScript file that is no bundle, made to look like one: `--model FILE.pt --labels FILE --preprocess …`."""

from __future__ import annotations

import dataclasses
import pickletools
import zipfile
from pathlib import Path

from models.bundles.bundle import ModelBundle, sha256_of
from models.bundles.settings import Settings
from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec
from models.errors import BundleError, EngineError

KIND = "bare-torchscript"


def bare_bundle(file: Path, settings: Settings, name: str | None = None) -> ModelBundle:
    """The bundle of a bare TorchScript file. Nothing is executed; the engine checks the number of classes.

    Args:
        file: traced or scripted: normalised float [N, 3 or 1, crop_size, crop_size] -> logits or scores.
        settings: labels are needed; ImageNet's preprocessing is the default.
        name: of the model; the file's own by default.

    Raises:
        BundleError: the file is missing, or there are no labels; one line that names the file.
        EngineError: the file is damaged, or no TorchScript.
    """
    if not file.is_file():
        raise BundleError(f"{file}: no such file")
    check_archive(file)
    return bundle_around(file, settings, EngineSpec(KIND, file.name, sha256_of(file)), "torchscript", name)


def bundle_around(
    file: Path, settings: Settings, engine: EngineSpec, architecture: str, name: str | None = None
) -> ModelBundle:
    """The settings of a file, as a bundle's facts.

    Args:
        file: the program.
        settings: labels are needed; ImageNet's preprocessing is the default.
        engine: how it runs; activation and output come from the settings.
        architecture: what kind of file it is.
        name: of the model; the file's own by default.

    Raises:
        BundleError: there are no labels.
    """
    if settings.labels is None:
        beside = file.with_suffix(".json").name
        raise BundleError(
            f'{file}: {_INDEFINITE[architecture]} needs labels: --labels FILE, or "labels" in {beside}'
        )
    spec = ModelSpec(
        name=name or file.stem,
        architecture=architecture,
        num_classes=len(settings.labels),
        labels="",
        preprocess=settings.preprocess or IMAGENET,
        activation=settings.activation or ("softmax" if len(settings.labels) > 1 else "sigmoid"),
        engine=dataclasses.replace(engine, activation=settings.activation, output=settings.output),
        source={"weights": file.name, "preprocess": "named" if settings.preprocess else "default"},
    )
    return ModelBundle(spec, settings.labels, file)


_INDEFINITE = {
    "torchscript": "a TorchScript file",
    "torch.export": "a program of torch.export",
    "onnx": "an ONNX file",
}


def check_archive(file: Path) -> None:
    """Compares every part of a TorchScript file with its checksum; libtorch itself does not.

    Raises:
        EngineError: not a zip archive of TorchScript's making, cut short, or with a changed byte; what it seems to
            be instead, and what to do with that.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
            pickled = next((archive.read(name) for name in names if name.endswith("/data.pkl")), b"")
    # A damaged directory makes zipfile raise nearly anything: BadZipFile, NotImplementedError, struct.error.
    except Exception:
        raise EngineError(f"{file}: {_what_else(file)}") from None
    if damaged is not None:
        raise EngineError(f"{file}: damaged, the checksum of {damaged!r} does not fit")
    if not any(name.endswith("/constants.pkl") for name in names):
        raise EngineError(f"{file}: {_no_program(names, pickled)}")


def _what_else(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(64)
    if file.suffix == ".safetensors" or head[8:10] == b'{"':
        return f"weights alone, no TorchScript; {_OPTIMISE}"
    if file.suffix == ".onnx":
        return f"an ONNX file; {_FROM}"
    if head[:2] == b"\x80\x02":
        return f"written by torch.save in its old format, no TorchScript; if it holds weights, {_OPTIMISE}"
    return "not a TorchScript file, or damaged"


_OPTIMISE = (
    "make a bundle of them: python optimize_model_for_inference.py --arch NAME --checkpoint FILE --labels LABELS "
    "--output FOLDER"
)
_FROM = (
    "make a bundle of it, which is served: python optimize_model_for_inference.py --from FILE --labels LABELS "
    "--output FOLDER"
)


def _no_program(names: list[str], pickled: bytes) -> str:
    if any(name.endswith("/.data/extern_modules") for name in names):
        return "a torch.package; it is served from --model-store, as a tensor model (docs/models.md)"
    if any(name.endswith(("archive_format", "models/model.json")) for name in names):
        return f"a program of torch.export; {_FROM}"
    whole = whole_module(pickled)
    if whole:
        return (
            f"a pickled module ({whole}), which only its own code can open; there, write TorchScript: "
            "torch.jit.trace(model.eval(), torch.rand(2, 3, 224, 224)).save('model.pt')"
        )
    return f"weights alone, no TorchScript; {_OPTIMISE}"


def whole_module(pickled: bytes) -> str:
    """The class of a module that torch.save has pickled as a whole, "" where the pickle holds anything else.

    Only the pickle's opcodes are read.
    """
    try:
        strings: list[str] = []
        for opcode, argument, _ in pickletools.genops(pickled):
            if opcode.name == "GLOBAL":
                module, _, name = str(argument).partition(" ")
            elif opcode.name == "STACK_GLOBAL":
                module, name = strings[-2:]
            else:
                strings += [argument] if isinstance(argument, str) else []
                if opcode.name in ("EMPTY_DICT", "MARK"):  # the outermost object is a dict
                    return ""
                continue
            return "" if module in ("collections", "torch._utils") else f"{module}.{name}"
    except Exception:
        pass
    return ""
