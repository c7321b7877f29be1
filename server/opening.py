"""Opens the models of a configuration, and those that are added while the server runs."""

from __future__ import annotations

import dataclasses
from weakref import WeakKeyDictionary

from models.bundles.labels import load_labels
from models.bundles.settings import Settings
from models.engines.selection import choose
from models.errors import ModelError
from models.images.budget import DEFAULT_MEMORY, DecodeBudget
from models.images.formats import SUPPORTED
from models.images.preprocess import Preprocessor
from models.images.presets import PRESETS, read_preprocess
from models.images.speed import relative_speed
from runtime.errors import UnknownModel
from runtime.folder import StoreFolder
from runtime.kinds.image_classifier import ImageClassifier
from runtime.model_set import FIXED_VERSION, AddedModel, ModelSet
from runtime.sources import Bundles, open_source
from runtime.version import AnyModel
from server.config import Config
from server.model_options import NO_STORE, store_folder


class Opener:
    """Files -> models. Nothing is loaded."""

    def __init__(self, config: Config, bundles: Bundles) -> None:
        """Creates it.

        Args:
            config: of this process.
            bundles: of the command line, by name.
        """
        self._config = config
        self._bundles = bundles
        self._added: WeakKeyDictionary[AnyModel, AddedModel] = WeakKeyDictionary()
        limits = config.limits
        self._max_pixels = int(limits.max_image_mpixels * 1_000_000)
        self._formats = SUPPORTED + limits.accept_format
        self._budget = DecodeBudget(
            limits.max_decode_ms, limits.decode_memory_mb * 1e6 or DEFAULT_MEMORY, relative_speed
        )

    def first(self, models: ModelSet) -> dict[str, AnyModel]:
        """The models that a process is created with, by name; the first is the default one. Raises ModelError."""
        found: dict[str, AnyModel] = {}
        for name, version in models.first():
            added = models.find(name, version)
            try:
                found[name] = self.open(added) if added else self._classifier(name, FIXED_VERSION, self._bundles)
            except UnknownModel as error:
                raise ModelError(f"{name} {version}: {error}") from None
        return found

    def open(self, added: AddedModel) -> AnyModel:
        """Reads and checks the files of a model that was added.

        Raises:
            UnknownModel: there is nothing at its path, or it leads out of the model store.
            ModelError: it is damaged, or cannot be served on this machine.
        """
        folder = store_folder(self._config.models)
        if folder is None:
            raise ModelError(NO_STORE)
        bundle = open_source(folder.resolve(added.path), added.name, _settings(added, folder))
        model = self._classifier(added.name, added.version, {added.name: bundle})
        if not added.batchable:
            model.facts = dataclasses.replace(model.facts, max_batch_size=1)
        self._added[model] = added
        return model

    def settings_of(self, model: AnyModel) -> Config:
        """The configuration of a model's deployment: the server's, but for what was said when it was added."""
        added, given = self._added.get(model), self._config.models
        if added is None:
            return self._config
        runner = given.runner if added.runner == "auto" else added.runner
        models = dataclasses.replace(
            given, runner=runner, engine_processes=added.processes or given.engine_processes
        )
        return dataclasses.replace(self._config, models=models)

    def _classifier(self, name: str, version: str, bundles: Bundles) -> ImageClassifier:
        given = self._config.models
        engine = given.engine if bundles is self._bundles else ""
        choice = choose(bundles[name], given.device, engine, given.intra_op_threads)
        scaled = self._config.server.scaled_decode
        spec = choice.bundle.spec.preprocess
        preprocessor = Preprocessor(spec, self._max_pixels, scaled, self._formats, self._budget)
        model = ImageClassifier(name, choice, preprocessor)
        model.facts = dataclasses.replace(model.facts, version=version)
        return model


def _settings(added: AddedModel, folder: StoreFolder) -> Settings:
    """Of a TorchScript file. Raises UnknownModel, ModelError."""
    return Settings(
        labels=load_labels(folder.resolve(added.labels)) if added.labels else None,
        preprocess=read_preprocess(_preprocess(added, folder)) if added.preprocess else None,
        activation=added.activation,
        output=added.output,
    )


def _preprocess(added: AddedModel, folder: StoreFolder) -> str:
    return added.preprocess if added.preprocess in PRESETS else str(folder.resolve(added.preprocess))
