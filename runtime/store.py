"""The models that are served, by name."""

from __future__ import annotations

import asyncio
import io
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

from batching import Batcher, BatchPolicy
from models.bundles.bare import bare_bundle
from models.bundles.bundle import ModelBundle
from models.bundles.paths import exists
from models.bundles.settings import Settings, settings_of
from models.engines import load_engine
from models.engines.base import EngineOptions
from models.engines.selection import Choice, choose
from models.errors import BundleError
from models.images.formats import SUPPORTED
from models.images.preprocess import Preprocessor
from models.machine.priority import give_way
from models.machine.resources import usable_cores
from runtime.cpu_pool import DecodePool
from runtime.kinds.image_classifier import Classifier, infer_checked
from runtime.phases import PhaseClock
from server.config import Config, ModelConfig
from server.default_model import default_model
from server.http.faults import NotReady, UnknownModel
from server.model_options import model_settings
from server.operations.metrics import Metrics

log = logging.getLogger("snapserve")

Bundles = dict[str, ModelBundle]


def find_bundles(config: ModelConfig) -> Bundles:
    """Reads and verifies what is to be served; runs nothing and needs no torch for bundles.

    Without `--model` that is `default_model()`.

    Raises:
        BundleError: a bundle or file is damaged, or two models have one name.
    """
    words = config.model or (str(default_model()),)
    found = [_find(*_split(word)) for word in words]
    bundles: Bundles = {}
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise BundleError(f"two models are called {name!r}; name one of them with --model NAME=PATH")
    settings = model_settings(config, {name: isinstance(each, ModelBundle) for name, each in found})
    for name, each in found:
        bundles[name] = each if isinstance(each, ModelBundle) else _bare(name, each, settings[name])
    return bundles


def _split(word: str) -> tuple[str, Path]:
    """[NAME=]PATH; a path may hold a = too, a name no /."""
    name, equals, path = word.partition("=")
    named = equals and "/" not in name and not exists(word)
    return (name, Path(path)) if named else ("", Path(word))


def _find(name: str, path: Path) -> tuple[str, ModelBundle | Path]:
    """The name of a model, and its bundle or its file."""
    if not exists(path):
        raise BundleError(f"{path}: there is no such folder or file")
    if not path.is_dir():
        return name or path.stem, path
    bundle = ModelBundle.load(path)
    return name or bundle.spec.name, bundle


def _bare(name: str, file: Path, settings: Settings) -> ModelBundle:
    return bare_bundle(file, settings.over(settings_of(file)), name)


class Catalog:
    """Loads the models, finds the one that a request asks for, and closes them.

    Attributes:
        choices: what is or will be served, by name; the first is the default.
        bundles: the same, without what led to it.
        decode_pool: the threads that decode pictures, shared by all models.
    """

    def __init__(self, config: Config, bundles: Bundles, metrics: Metrics) -> None:
        """Chooses the engines; `load` then loads them.

        Raises:
            BundleError: a bundle cannot be served on this machine, or lacks the engine that is asked for.
        """
        self.choices = {name: choose(bundle, config.models) for name, bundle in bundles.items()}
        self.bundles = {name: choice.bundle for name, choice in self.choices.items()}
        self.decode_pool = DecodePool(config.server.decode_threads or usable_cores(), give_way)
        self._config = config
        self._metrics = metrics
        self._classifiers: dict[str, Classifier] = {}
        self._engine_threads: list[ThreadPoolExecutor] = []

    @property
    def ready(self) -> bool:
        """Whether every model is loaded, warm and open."""
        return len(self._classifiers) == len(self.bundles) and not any(
            classifier.batcher.closed for classifier in self
        )

    def __iter__(self) -> Iterator[Classifier]:
        return iter(self._classifiers.values())

    def loaded(self, name: str) -> Classifier | None:
        """The classifier of that name, if it is loaded."""
        return self._classifiers.get(name)

    def find(self, name: str | None) -> tuple[str, Classifier]:
        """The model of that name, or the default one.

        Raises:
            UnknownModel: there is none of that name.
            NotReady: it is still loading.
        """
        name = next(iter(self.bundles)) if name is None else name
        if name not in self.bundles:
            raise UnknownModel("No model of that name is loaded.")
        if name not in self._classifiers:
            raise NotReady("the model is loading")
        return name, self._classifiers[name]

    async def load(self) -> None:
        """Loads every model on an engine thread of its own, and warms it up through the serving call.

        Raises:
            ModelError: a model cannot be loaded here.
        """
        for name, choice in self.choices.items():
            classifier = await self._load(name, choice)
            await _warm_up(classifier)
            self._metrics.watch(name, classifier)
            self._classifiers[name] = classifier

    async def _load(self, name: str, choice: Choice) -> Classifier:
        bundle = choice.bundle
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"engine-{name}", initializer=give_way)
        self._engine_threads.append(thread)
        loop, batching, models = asyncio.get_running_loop(), self._config.batching, self._config.models
        max_batch_size = batching.max_batch_size or choice.batch_size
        options = EngineOptions(models.device, models.intra_op_threads, max_batch_size=max_batch_size)
        engine = await loop.run_in_executor(thread, load_engine, bundle, options)
        await loop.run_in_executor(thread, engine.warm_up)
        batcher = Batcher(
            partial(infer_checked, engine),
            BatchPolicy(max_batch_size, batching.batch_timeout_ms),
            executor=thread,
            queue_limit=batching.queue_limit,
            observer=self._metrics.observer(name),
        )
        max_pixels = int(self._config.limits.max_image_mpixels * 1_000_000)
        preprocessor = Preprocessor(
            bundle.spec.preprocess,
            max_pixels,
            self._config.server.scaled_decode,
            SUPPORTED + self._config.limits.accept_format,
        )
        await self.decode_pool.run(preprocessor.warm_up)
        return Classifier(bundle, engine, preprocessor, batcher, self.decode_pool)

    async def close(self) -> None:
        """Runs what is queued, then frees engines and threads."""
        for classifier, thread in zip(self, self._engine_threads, strict=False):
            await classifier.batcher.close()
            await asyncio.get_running_loop().run_in_executor(thread, classifier.engine.close)
        for thread in self._engine_threads:
            thread.shutdown(wait=False)
        self.decode_pool.close()


async def _warm_up(classifier: Classifier) -> None:
    picture = io.BytesIO()
    Image.effect_noise((64, 64), 64).save(picture, "JPEG")
    await classifier.classify(picture.getvalue(), 1, PhaseClock(time.monotonic))
