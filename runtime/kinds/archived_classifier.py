"""TorchServe's built-in `image_classifier` on our own path: an archive's network, without TorchServe's Python."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from models.archives.archive import Archive
from models.archives.class_names import labels_of, read_class_names
from models.archives.classifier import HANDLER, SETTINGS
from models.bundles.bare import KIND as TORCHSCRIPT
from models.bundles.bare import bundle_around, check_archive
from models.bundles.bundle import sha256_of
from models.bundles.spec import EngineSpec, PreprocessSpec
from models.engines.base import EngineOptions, Probabilities
from models.engines.selection import Choice, choose
from models.errors import EngineError
from models.images.preprocess import Preprocessor
from models.images.stop import Stop
from runtime.inputs import Fields, Input
from runtime.kinds import archived_engine, explaining_engine
from runtime.kinds.handler_items import item_of, reply_of, settings_of
from runtime.kinds.handler_parts import Row
from runtime.kinds.image_classifier import CheckedEngine, ImageClassifier, outputs_of
from runtime.processes.recipe import Recipe


class ArchivedClassifier(ImageClassifier):
    """An image classifier in an archive.

    How many classes it has is known after its first image, which is that of the warm-up.

    Attributes:
        archive: that it is in.
        has_handler: it takes fields, too: what asks for an explanation, or is no image that is decoded here.
    """

    has_handler = True

    def __init__(self, name: str, archive: Archive, choice: Choice, preprocessor: Preprocessor) -> None:
        """Creates it; nothing is loaded.

        Args:
            name: under which it is served.
            archive: that it is in.
            choice: what is served of it.
            preprocessor: for its images.

        Raises:
            ArchiveError: the names of its classes cannot be read.
        """
        super().__init__(name, choice, preprocessor)
        self.archive = archive
        self._names: Mapping[int, str] = read_class_names(archive.folder)

    def load(self, options: EngineOptions) -> CheckedEngine:
        """Loads the engine. Raises ModelError, also where it is code of the archive: not in this process."""
        if self.archive.manifest.model_file:
            raise EngineError(f"{self.archive.path}: an archive's code runs in a process of its own only")
        return super().load(options)

    def prepare(self, given: Input, stop: Stop | None = None, /) -> Any:
        """As every image classifier; fields are for the built-in handler.

        Raises:
            ImageError, InvalidInput, Stopped: as there.
        """
        return item_of(given) if isinstance(given, Fields) else super().prepare(given, stop)

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the engine, and when it is first asked for explanations the handler."""
        usual = self._recipe_of_engine(options)
        size = options.max_batch_size
        handler = settings_of(self.facts.name, self.archive, HANDLER, options, size)
        handler["runs_code"] = False  # what of it may run, the engine has made importable
        settings = {"target": usual.target, "engine": dict(usual.settings), "handler": handler}
        target = f"{explaining_engine.__name__}:{explaining_engine.load_in_child.__name__}"
        return dataclasses.replace(usual, target=target, settings=settings)

    def _recipe_of_engine(self, options: EngineOptions) -> Recipe:
        usual, manifest = super().recipe(options), self.archive.manifest
        if not manifest.model_file:
            return usual
        settings: dict[str, Any] = {
            "spec": usual.settings["spec"],
            "folder": str(self.archive.folder.absolute()),
            "model_file": manifest.model_file,
            "packages": str(self.archive.packages.absolute()) if self.archive.packages else "",
            "options": usual.settings["options"],
        }
        target = f"{archived_engine.__name__}:{archived_engine.load_in_child.__name__}"
        return dataclasses.replace(usual, target=target, settings=settings)

    def finish(self, row: Probabilities | Row) -> Any:
        """float32 [num_classes] -> scores; an explanation -> the reply."""
        if isinstance(row, dict):
            return reply_of(row)
        if len(row) != len(self._labels):
            self._labels = labels_of(self._names, len(row))
            self.facts = dataclasses.replace(self.facts, num_classes=len(row), outputs=outputs_of(len(row)))
        return super().finish(row)


def open_archived_classifier(
    name: str, archive: Archive, preprocessor_of: Callable[[PreprocessSpec], Preprocessor]
) -> ArchivedClassifier:
    """The model of an archive for which `is_classifier` holds. Nothing is run.

    Args:
        name: under which it is served.
        archive: that it is in.
        preprocessor_of: makes what decodes images.

    Raises:
        ArchiveError: the names of its classes cannot be read.
        EngineError: its file is damaged, or no TorchScript where that is needed.
    """
    manifest = archive.manifest
    file = archive.folder / manifest.serialized_file
    if not manifest.model_file:
        check_archive(file)
    engine = EngineSpec(TORCHSCRIPT, manifest.serialized_file, sha256_of(file))
    architecture = "eager" if manifest.model_file else "torchscript"
    bundle = bundle_around(file, SETTINGS, engine, architecture, name)
    choice = choose(bundle)
    return ArchivedClassifier(name, archive, choice, preprocessor_of(choice.bundle.spec.preprocess))
