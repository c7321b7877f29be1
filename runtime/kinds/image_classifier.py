"""Image classifiers: encoded image -> pixels -> probabilities -> scores."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from models.bundles.bare import KIND as BARE
from models.bundles.bundle import ModelBundle
from models.bundles.labels import Labels
from models.bundles.spec import ModelSpec, spec_from_json
from models.engines import ENGINES, load_engine
from models.engines.base import Engine, EngineOptions, Probabilities
from models.engines.selection import Choice
from models.images.glance import may_take_long
from models.images.preprocess import Pixels, Preprocessor
from models.images.stop import Stop
from runtime.errors import EngineOutputError, InvalidInput
from runtime.inputs import Image, Input
from runtime.model import IMAGE_CLASSIFIER, EngineFacts, ModelFacts
from runtime.outputs import Scores
from runtime.processes.recipe import Recipe
from runtime.signature import TensorSpec
from runtime.values import Tensors

KIND = IMAGE_CLASSIFIER
INPUT, OUTPUT = "image", "scores"  # names of its tensors


class ImageClassifier:
    """A bundle, or a TorchScript file, as a model.

    Attributes:
        facts: known before it is loaded.
        example_file: path of an image to try it with.
        choice: the bundle with the engine that runs on this machine.
    """

    def __init__(self, name: str, choice: Choice, preprocessor: Preprocessor) -> None:
        """Creates it; nothing is loaded.

        Args:
            name: under which it is served.
            choice: what is served of its bundle.
            preprocessor: for its images.
        """
        spec = choice.bundle.spec
        weights = str(spec.source.get("weights", "unknown"))
        untried = spec.engine.kind == BARE
        self.facts = ModelFacts(
            name,
            KIND,
            spec.architecture,
            weights,
            spec.num_classes,
            choice.batch_size,
            untried,
            inputs=(TensorSpec(INPUT, "BYTES", (-1,)),),
            outputs=outputs_of(spec.num_classes),
        )
        self.example_file = spec.example
        self.choice = choice
        self._preprocessor = preprocessor
        self._labels = choice.bundle.labels

    def may_take_long(self, given: Input) -> bool:
        """Whether it may be a big image."""
        return isinstance(given, Image) and may_take_long(given.data)

    def prepare(self, given: Input, stop: Stop | None = None, /) -> Pixels:
        """Encoded image, or the pixels of one -> uint8 [crop_size, crop_size, 3], RGB.

        Pixels of the crop's size are taken as they are, others are resized and cropped like those of a file.

        Raises:
            ImageError: it cannot be decoded.
            InvalidInput: it is no image.
            Stopped: `stop` was set.
        """
        if isinstance(given, Image):
            return self._preprocessor(given.data, stop)
        pixels = given.arrays.get(INPUT) if isinstance(given, Tensors) else None
        if pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3:
            raise InvalidInput("This model takes an image.")
        return self._preprocessor.prepare(np.ascontiguousarray(pixels))

    def example(self) -> Image:
        """A JPEG of noise."""
        stream = io.BytesIO()
        PillowImage.effect_noise((64, 64), 64).save(stream, "JPEG")
        return Image(stream.getvalue())

    def load(self, options: EngineOptions) -> CheckedEngine:
        """Loads the engine, on the thread that will run it. Raises ModelError."""
        return CheckedEngine(load_engine(self.choice.bundle, options))

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the same engine."""
        bundle = self.choice.bundle
        settings = {
            "spec": bundle.spec.to_json(),
            "labels": list(bundle.labels),
            "file": str(bundle.file.absolute()),
            "options": dataclasses.asdict(options),
        }
        target, kind = f"{__name__}:{load_in_child.__name__}", bundle.spec.engine.kind
        preload = (__name__, *filter(None, [ENGINES.get(kind)]))
        return Recipe(str(bundle.file), target, settings, preload)

    def finish(self, row: Probabilities) -> Scores:
        """float32 [num_classes] -> scores."""
        return Scores(row, self._labels)

    def describe(self, engine: EngineFacts) -> str:
        """Two lines, and one for each warning."""
        spec, ran = self.choice.bundle.spec, engine.spec
        threads = f"{ran.threads} thread{'s' if ran.threads > 1 else ''}, " if ran.threads else ""
        line = (
            f"  {self.facts.name}: {spec.architecture}, {self.facts.num_classes} classes, "
            f"{ran.precision} on {ran.device} ({ran.kind}, {threads}batches up to {ran.max_batch_size})"
        )
        random = "random weights, its labels mean nothing" if spec.is_random else ""
        warnings = (self.choice.notice, random, *engine.notices)
        return "\n  WARNING: ".join(filter(None, (f"{line}\n    {self._preparation(engine)}", *warnings)))

    def document(self, engine: EngineFacts | None, whole: bool) -> dict[str, Any]:
        """What GET /models shows: the bundle's manifest, with the engine as it was resolved."""
        choice = self.choice
        document = choice.bundle.spec.to_json()
        ran = dataclasses.asdict(engine.spec) if engine else document["engine"]
        engines = list(document.pop("engines"))
        if engine:
            document["activation"] = ran["activation"] or document["activation"]
            document["preparation"] = self._preparation(engine)
            document["notices"] = engine.notices
        document.update(name=self.facts.name, num_classes=self.facts.num_classes)
        document.update(ready=engine is not None, engine={"name": choice.engine, **ran})
        if whole:
            table = {"table": choice.table.document} if choice.table.document else {}
            document.update(engines=engines, labels=self._labels, **table)
        return document

    def _preparation(self, engine: EngineFacts) -> str:
        """What an image becomes before the network, and what becomes of its outputs, in one line."""
        spec = self.choice.bundle.spec
        default = " by default, --preprocess names another" if spec.source.get("preprocess") == "default" else ""
        activation = engine.spec.activation or spec.activation
        scores = "scores as the network gives them" if activation == "none" else f"scores by {activation}"
        return f"{spec.preprocess.describe()}{default}; {scores}"


class CheckedEngine:
    """An engine whose answers are checked.

    Attributes:
        engine: that is called.
        facts: of it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.facts = EngineFacts(engine.spec, tuple(getattr(engine, "notices", ())))

    def infer(self, batch: Sequence[Pixels]) -> Sequence[Probabilities]:
        """Runs a batch and gives its rows.

        Raises:
            EngineOutputError: a value is not finite; the batcher then finds the item at fault by halves.
        """
        probabilities = self.engine.infer(batch)
        if not np.isfinite(probabilities).all():
            raise EngineOutputError("the engine's answer holds a value that is not finite")
        return list(probabilities)

    def warm_up(self) -> None:
        """Runs every batch size that will be served."""
        self.engine.warm_up()

    def close(self) -> None:
        """Frees memory."""
        self.engine.close()


def outputs_of(num_classes: int) -> tuple[TensorSpec, ...]:
    """What a classifier returns of a batch; num_classes: 0 where it is not known."""
    return (TensorSpec(OUTPUT, "FP32", (-1, num_classes or -1)),)


def load_in_child(spec: Mapping[str, Any], labels: Labels, file: str, options: Mapping[str, Any]) -> CheckedEngine:
    """What a recipe names: the engine of a bundle whose hashes the parent has checked. Raises ModelError."""
    given = EngineOptions(**{**options, "frequent": tuple(options["frequent"])})
    if given.intra_op_threads:
        torch.set_num_threads(given.intra_op_threads)  # before the first operation: of this process alone
    bundle = ModelBundle(spec_from_json(ModelSpec, spec, file), labels, Path(file))
    return CheckedEngine(load_engine(bundle, given))
