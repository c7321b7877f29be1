"""The network of a TorchServe archive as weights: TorchScript as it is, or a trace of the archive's own class."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from rich.console import Console

from models.archives.class_names import labels_of, read_class_names
from models.archives.classifier import SETTINGS
from models.archives.eager import load_network, make_importable
from models.bundles import labels as label_files
from models.bundles.bare import check_archive
from models.bundles.bundle import sha256_of
from models.bundles.spec import IMAGENET
from models.errors import EngineError, ModelError
from models.networks.graph import jit_warnings_ignored, trace_or_script
from models.networks.programs import program_bundle
from models.optimize import program
from models.optimize.archive_source import ArchiveSource
from models.optimize.errors import UsageError
from models.optimize.isolation import FAILURES, isolated, reason_of
from models.optimize.program import ProgramWeights

_TRACED = "traced.pt"


def from_archive(source: ArchiveSource, console: Console) -> ProgramWeights:
    """The archive's network, with its labels and with the preprocessing and softmax of `image_classifier`.

    Args:
        source: whose files stay until the end of the optimisation.
        console: for warnings about the network.

    Raises:
        UsageError: the network does not load, or is not one that can be optimised; the names of its classes cannot
            be read.
    """
    archive = source.archive
    try:
        return _from_archive(source, console)
    except ModelError as error:
        text = str(error).replace(f"{archive.folder}/", "").replace(f"{source.scratch}/", "")
        raise UsageError(f"{archive.path}: {text}") from None


def _from_archive(source: ArchiveSource, console: Console) -> ProgramWeights:
    archive, manifest = source.archive, source.archive.manifest
    names = read_class_names(archive.folder)
    file = archive.folder / manifest.serialized_file
    if manifest.model_file:
        file = _traced(source)
    check_archive(file)
    bundle = program_bundle(file, SETTINGS)
    origin = {
        "archive": archive.path.name,
        "version": manifest.version,
        "weights": manifest.serialized_file,
        "sha256": sha256_of(archive.folder / manifest.serialized_file),
    }
    spec = dataclasses.replace(bundle.spec, name=manifest.name, source=origin, example="")
    found = program.of_bundle(dataclasses.replace(bundle, spec=spec), console, title=str(archive.path))
    labels = labels_of(names, found.program.calling.columns)
    return dataclasses.replace(found, labels=label_files.labels_of(list(labels), "index_to_name.json"))


def _traced(source: ArchiveSource) -> Path:
    """TorchScript of a network whose class the archive brings. Its code runs in a process of its own."""
    archive, file = source.archive, source.scratch / _TRACED
    try:
        with isolated(Tracer) as tracer:
            tracer.trace(
                archive.folder.resolve(), archive.manifest.model_file, archive.manifest.serialized_file, file
            )
    except FAILURES as failure:
        raise EngineError(reason_of(failure)) from None
    return file


class Tracer:
    """Makes TorchScript of a network that is code. For a process of its own."""

    def trace(self, folder: Path, model_file: str, weights: str, into: Path) -> None:
        """Writes TorchScript that answers as the network does.

        Args:
            folder: of the archive, absolute.
            model_file: with the network's class.
            weights: file with its state dict.
            into: the TorchScript file.

        Raises:
            EngineError: the network does not load, or no TorchScript answers as it does; one line.
        """
        make_importable(folder, None)
        network = load_network(folder, model_file, weights, "cpu")
        side = IMAGENET.crop_size
        try:
            traced, _ = trace_or_script(network, torch.zeros(2, 3, side, side))
        except ModelError as error:
            raise EngineError(f"{model_file}: {error}") from None
        with jit_warnings_ignored():
            torch.jit.save(traced, into)
