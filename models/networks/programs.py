"""A program that the optimiser takes from a file: TorchScript, ONNX, or torch.export's. Knows no torch."""

from __future__ import annotations

import re
import shutil
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from models.bundles.bare import bundle_around, check_archive
from models.bundles.bundle import ModelBundle, sha256_of
from models.bundles.paths import is_file
from models.bundles.settings import Settings
from models.bundles.spec import PROGRAM_KIND, EngineSpec
from models.errors import BundleError, EngineError

TORCHSCRIPT, EXPORT, ONNX = FORMATS = ("torchscript", "torch.export", "onnx")
PROGRAM_ENGINE = "as-it-is"  # name in a bundle of the engine that runs the file itself

PACKAGE = "torch.package"  # not among them: its code is Python's

_SUFFIXES = {TORCHSCRIPT: ".pt", EXPORT: ".pt2", ONNX: ".onnx"}


def program_bundle(file: Path, settings: Settings) -> ModelBundle:
    """The facts of a program's file as a bundle. Nothing is executed; the engine checks the number of classes.

    Args:
        file: normalised float [N, 3 or 1, crop_size, crop_size] -> logits or scores.
        settings: labels are needed; ImageNet's preprocessing is the default.

    Raises:
        BundleError: the file is missing, or there are no labels; one line that names the file.
        EngineError: the file is damaged, or of another kind.
    """
    kind = format_of(file)
    companions = {name: sha256_of(file.parent / name) for name in external_files(file, kind)}
    engine = EngineSpec(PROGRAM_KIND, file.name, sha256_of(file), companions=companions)
    return bundle_around(file, settings, engine, kind)


def format_of(file: Path) -> str:
    """One of `FORMATS`, by the file's content; ONNX, which has no mark of its own, by its name.

    Raises:
        BundleError: there is no such file.
        EngineError: it is none of them, or a part of it does not fit its checksum.
    """
    if not is_file(file):
        raise BundleError(f"{file}: no such file")
    if file.suffix == ".onnx":
        return ONNX
    names = _entries(file)
    if not any(name.endswith("/models/model.json") for name in names):
        _check_export(file, names)
        check_archive(file)
        return TORCHSCRIPT
    check_parts(file)
    return EXPORT


def is_package(file: Path) -> bool:
    """Whether a file is a torch.package, by the names of its entries. Nothing of it is unpickled or imported."""
    return any(name.endswith("/.data/extern_modules") for name in _entries(file))


def _entries(file: Path) -> list[str]:
    """Of a zip archive; none of what is no archive, or damaged."""
    with suppress(Exception), zipfile.ZipFile(file) as archive:
        return archive.namelist()
    return []


def check_parts(file: Path) -> None:
    """Compares every part of a zip archive with its checksum. Raises EngineError."""
    with zipfile.ZipFile(file) as archive:
        if (damaged := archive.testzip()) is not None:
            raise EngineError(f"{file}: damaged, the checksum of {damaged!r} does not fit")


def _check_export(file: Path, names: list[str]) -> None:
    """Tells what a file that is called .pt2 is instead; a damaged one may look like the archives inside it."""
    if any("/aotinductor/" in name for name in names):
        raise EngineError(
            f"{file}: compiled by AOTInductor, which cannot be converted; give the file of torch.export.save"
        )
    if file.suffix == ".pt2":
        raise EngineError(f"{file}: not a program of torch.export, or damaged")


def external_files(file: Path, kind: str) -> list[str]:
    """Names of the files beside an ONNX file that hold its weights: those of large models do not lie inside.

    Raises:
        BundleError: one of them is missing, or lies elsewhere.
    """
    if kind != ONNX:
        return []
    names = sorted(set(_locations(file.read_bytes())))
    for name in names:
        if Path(name).name != name or not (file.parent / name).is_file():
            raise BundleError(f"{file}: its weights are in {name!r}, which has to lie beside it")
    return names


def _locations(content: bytes) -> Iterator[str]:
    """Entries of `external_data` with the key "location" (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""
    for found in re.finditer(rb"\x0a\x08location\x12([\x01-\x7f])", content):
        yield content[found.end() : found.end() + found[1][0]].decode(errors="replace")


def copy_program(file: Path, kind: str, folder: Path) -> tuple[str, list[str]]:
    """Copies a program's file into `folder`; returns its name there, and those of the files that belong to it."""
    name, companions = f"program{_SUFFIXES[kind]}", external_files(file, kind)
    shutil.copyfile(file, folder / name)
    for each in companions:
        shutil.copyfile(file.parent / each, folder / each)
    return name, companions
