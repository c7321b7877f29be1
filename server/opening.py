"""Opens the models of a configuration, and those that are added while the server runs."""

from __future__ import annotations

import dataclasses
from weakref import WeakKeyDictionary

from models.archives.archive import Archive
from models.archives.classifier import is_classifier
from models.archives.config import read_config
from models.archives.open import open_archive
from models.bundles.bundle import ModelBundle
from models.bundles.labels import load_labels
from models.bundles.settings import Settings
from models.bundles.spec import PreprocessSpec
from models.engines.selection import choose
from models.errors import CodeRefused, ModelError
from models.images.budget import DEFAULT_MEMORY, DecodeBudget
from models.images.formats import SUPPORTED
from models.images.preprocess import Preprocessor
from models.images.presets import PRESETS, read_preprocess
from models.images.speed import relative_speed
from models.machine.resources import usable_cores
from models.networks.programs import is_package
from runtime.added_model import ARCHIVE, TENSOR, AddedModel, ArchiveAsked
from runtime.archive_settings import Registered
from runtime.errors import UnknownModel
from runtime.folder import StoreFolder
from runtime.kinds.archived_classifier import ArchivedClassifier, open_archived_classifier
from runtime.kinds.handler_items import Front
from runtime.kinds.handler_model import HandlerModel
from runtime.kinds.image_classifier import ImageClassifier
from runtime.kinds.package_model import PackageModel, open_package_model
from runtime.kinds.tensor_model import TensorModel, open_tensor_model
from runtime.model_set import ModelSet
from runtime.sources import Bundles, open_source
from runtime.version import AnyModel
from server.config import Config, ModelConfig
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
        self._archives: WeakKeyDictionary[AnyModel, Registered] = WeakKeyDictionary()
        self._unpacked: WeakKeyDictionary[AnyModel, Archive] = WeakKeyDictionary()
        limits = config.limits
        self._max_pixels = int(limits.max_image_mpixels * 1_000_000)
        self._formats = SUPPORTED + limits.accept_format
        self._budget = DecodeBudget(
            limits.max_decode_ms, limits.decode_memory_mb * 1e6 or DEFAULT_MEMORY, relative_speed
        )

    def first(self, models: ModelSet) -> dict[str, AnyModel]:
        """The models that a process is created with, by name; the first is the default one. Raises ModelError."""
        found: dict[str, AnyModel] = {}
        for key in models.first():
            try:
                found[key[0]] = self.open(*key, models.find(*key))
            except UnknownModel as error:
                raise ModelError(f"{' '.join(key)}: {error}") from None
        return found

    def open(self, name: str, version: str, added: AddedModel | None) -> AnyModel:
        """Reads and checks the files of a version.

        Args:
            name: of the model.
            version: of it.
            added: how it was added; None for one of the command line.

        Raises:
            UnknownModel: there is nothing at its path, or it leads out of the model store.
            ModelError: it is damaged, or cannot be served on this machine.
        """
        given = self._config.models
        if added is None:
            return self._classifier(name, version, self._bundles[name], given.engine)
        model: ImageClassifier | TensorModel | HandlerModel
        if added.kind == ARCHIVE:
            model = self._archived(name, added)
            model.facts = dataclasses.replace(model.facts, version=version)
        elif added.kind == TENSOR:
            model = self._program(name, added.path)
            model.facts = dataclasses.replace(model.facts, version=version)
        else:
            model = self._classifier(name, version, self._bundle_of(added), "")
        if not added.batchable:
            model.facts = dataclasses.replace(model.facts, max_batch_size=1)
        self._added[model] = added
        return model

    def open_file(self, path: str) -> AnyModel:
        """The program at a path below the model store, under the path as its name.

        Args:
            path: as a request names it.

        Raises:
            UnknownModel: there is nothing, or it leads out of the model store.
            CodeRefused: it is a package, and there is no `--allow-code`.
            ModelError: it is damaged, or no program.
        """
        return self._program(path, path)

    def _program(self, name: str, path: str) -> TensorModel:
        folder = self._folder()
        file = folder.resolve(path)
        if not is_package(file):
            return open_tensor_model(name, file, self._preprocessor, folder.inside)
        if not self._config.models.allow_code:
            raise CodeRefused(f"{file}: a torch.package is a program; --allow-code lets it run")
        return open_package_model(name, file, self._preprocessor, folder.inside)

    def _archived(self, name: str, added: AddedModel) -> ArchivedClassifier | HandlerModel:
        folder, given = self._folder(), self._config
        may_run_code = given.models.allow_code or given.torchserve.is_on
        installs = given.models.install_requirements and may_run_code  # setup.py is code, too
        archive = open_archive(folder.resolve(added.path), folder.inside, installs_requirements=installs)
        asked = added.archive or ArchiveAsked()
        handler = asked.handler or archive.manifest.handler
        is_ours = is_classifier(archive, handler) and not _envelope(given)
        if (not is_ours or archive.manifest.model_file) and not may_run_code:
            raise CodeRefused(f"{archive.path}: an archive with code is a program; --allow-code lets it run")
        model: ArchivedClassifier | HandlerModel
        if is_ours:
            model = open_archived_classifier(name, archive, lambda spec: self._preprocessor(spec, exactly=True))
        else:
            front = Front(_envelope(given), given.torchserve.decode_input_request)
            model = HandlerModel(name, archive, asked, front=front)
        config = read_config(archive.config, name)
        self._archives[model] = Registered(asked, config, given.torchserve.job_queue_size)
        self._unpacked[model] = archive
        return model

    def _folder(self) -> StoreFolder:
        folder = store_folder(self._config.models)
        if folder is None:
            raise ModelError(NO_STORE)
        return folder

    def _bundle_of(self, added: AddedModel) -> ModelBundle:
        folder = self._folder()
        path = folder.resolve(added.path)
        for each in path.iterdir() if path.is_dir() else ():
            if each.is_symlink():
                folder.inside(each)
        return open_source(path, added.name, _settings(added, folder), folder.inside)

    def settings_of(self, model: AnyModel) -> Config:
        """The configuration of a model's deployment: the server's, but for what was said when it was added."""
        added, given = self._added.get(model), self._config.models
        runner, processes = given.runner, given.engine_processes
        if added is not None:
            runner = runner if added.runner == "auto" else added.runner
            processes = added.processes_in(max(1, self._config.server.workers)) or processes
        if isinstance(model, PackageModel):
            runner = "process"
        models = dataclasses.replace(given, runner=runner, engine_processes=processes)
        if added is not None and added.archive:
            models = _of_archive(models, processes)
        return dataclasses.replace(self._config, models=models)

    def _classifier(self, name: str, version: str, bundle: ModelBundle, engine: str) -> ImageClassifier:
        given = self._config.models
        choice = choose(bundle, given.device, engine, given.intra_op_threads)
        model = ImageClassifier(name, choice, self._preprocessor(choice.bundle.spec.preprocess))
        model.facts = dataclasses.replace(model.facts, version=version)
        return model

    def release(self, model: AnyModel) -> None:
        """Removes what lies unpacked of a model archive that is not used any more."""
        archive = self._unpacked.pop(model, None)
        if archive is not None:
            archive.release()

    def archive_of(self, model: AnyModel) -> Registered | None:
        """How a model archive is run; None of another model."""
        return self._archives.get(model)

    def _preprocessor(self, spec: PreprocessSpec, exactly: bool = False) -> Preprocessor:
        scaled = self._config.server.scaled_decode
        return Preprocessor(spec, self._max_pixels, scaled, self._formats, self._budget, exactly)


def _of_archive(models: ModelConfig, processes: int) -> ModelConfig:
    """An archive runs in processes of its own, as many as it has workers, which share the cores."""
    threads = max(1, (models.intra_op_threads or usable_cores()) // processes)
    return dataclasses.replace(models, runner="process", engine_spares=0, intra_op_threads=threads)


def _envelope(given: Config) -> str:
    """Of requests to handlers; "" for none."""
    envelope = given.torchserve.service_envelope
    return "" if envelope == "none" else envelope


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
