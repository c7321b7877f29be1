"""Programs of any signature: positional arguments in, nested values out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.bundles.settings import Resolver, as_it_is
from models.bundles.spec import PreprocessSpec
from models.engines.base import EngineOptions
from models.errors import EngineError
from models.images.glance import may_take_long
from models.images.preprocess import Pixels, Preprocessor
from models.images.stop import Stop
from models.networks.programs import ONNX, format_of
from runtime.errors import InvalidInput
from runtime.inputs import Arguments, Image, Input
from runtime.kinds import tensor_engine
from runtime.kinds.program_signature import signature_of
from runtime.kinds.tensor_engine import Item, Row, TensorEngine
from runtime.kinds.tensor_settings import TensorSettings, tensor_settings_of
from runtime.model import TENSOR_MODEL, EngineFacts, ModelFacts
from runtime.outputs import Value
from runtime.processes.recipe import Recipe
from runtime.signature import ARGUMENT
from runtime.values import Nested, Tensors

KIND = TENSOR_MODEL


class TensorModel:
    """A TorchScript file, or a program of torch.export, as a model.

    Attributes:
        facts: known before it is loaded.
        example_file: none.
        file: of the program.
        settings: how it is run.
    """

    example_file = ""

    def __init__(
        self, name: str, file: Path, program: str, settings: TensorSettings, preprocessor: Preprocessor
    ) -> None:
        """Creates it; nothing is loaded.

        Args:
            name: under which it is served.
            file: of the program.
            program: "torchscript", "torch.export" or "torch.package".
            settings: how it is run.
            preprocessor: for images among the arguments.
        """
        told = signature_of(file, program)
        self.facts = ModelFacts(
            name,
            KIND,
            program,
            file.name,
            0,
            settings.max_batch_size,
            True,
            size=file.stat().st_size,
            inputs=settings.inputs or told.inputs,
            outputs=settings.outputs or told.outputs,
        )
        self._scalars = told.scalars
        self.file = file
        self.settings = settings
        self._preprocessor = preprocessor

    def may_take_long(self, given: Input) -> bool:
        """Whether there may be a big image among the arguments."""
        return any(may_take_long(image.data) for image in _images(given))

    def prepare(self, given: Input, stop: Stop | None = None, /) -> Item:
        """Arguments -> the same, with a float32 tensor [1, 3, crop_size, crop_size] for each image.

        Tensors become arguments by their names, in the order of `facts.inputs`.

        Raises:
            ImageError: an image cannot be decoded.
            InvalidInput: no arguments, or others than the program's.
            Stopped: `stop` was set.
        """
        if isinstance(given, Tensors):
            return self._arguments(given)
        if not isinstance(given, Arguments):
            raise InvalidInput("This model takes arguments.")
        return tuple([self._normalised(each, stop) if isinstance(each, Image) else each for each in given.values])

    def example(self) -> None:
        """No input fits every signature."""

    def load(self, options: EngineOptions) -> TensorEngine:
        """Loads the engine, on the thread that will run it. Raises EngineError."""
        return tensor_engine.load(self.file, self.facts.architecture, self._own(options))

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the same engine."""
        return self.recipe_for(tensor_engine.load_in_child, options, kind=self.facts.architecture)

    def recipe_for(self, load: Callable[..., TensorEngine], options: EngineOptions, **settings: Any) -> Recipe:
        """One for every kind of program, so that all of them are forked from the same spare process."""
        own = {"file": str(self.file.absolute()), "options": dataclasses.asdict(self._own(options))}
        target = f"{load.__module__}:{load.__name__}"
        return Recipe(str(self.file), target, {**own, **settings}, (tensor_engine.__name__,))

    def finish(self, row: Row) -> Value:
        """What the call returned."""
        return Value(row[0])

    def describe(self, engine: EngineFacts) -> str:
        """A line, and one for each warning."""
        size = self.settings.max_batch_size
        batches = f"batches up to {size}" if size > 1 else "one call at a time"
        line = f"  {self.facts.name}: {self.facts.architecture} on {engine.spec.device} ({batches})"
        return "\n  WARNING: ".join((line, *engine.notices))

    def document(self, engine: EngineFacts | None, whole: bool) -> dict[str, Any]:
        """What GET /models shows."""
        ran = dataclasses.asdict(engine.spec) if engine else {}
        return {
            "name": self.facts.name,
            "kind": KIND,
            "architecture": self.facts.architecture,
            "ready": engine is not None,
            "engine": ran,
            **dataclasses.asdict(self.settings),
        }

    def _own(self, options: EngineOptions) -> EngineOptions:
        """The server's options with the model's own device and batch size."""
        settings = self.settings
        return dataclasses.replace(
            options, device=settings.device or options.device, max_batch_size=settings.max_batch_size
        )

    def _arguments(self, given: Tensors) -> Item:
        names = [each.name for each in self.facts.inputs]
        names = names or [f"{ARGUMENT}{place}" for place in range(len(given.arrays))]
        if given.arrays.keys() != set(names):
            raise InvalidInput(f"This model takes {', '.join(names)}.")
        return tuple([_argument(given.arrays[name], place in self._scalars) for place, name in enumerate(names)])

    def _normalised(self, image: Image, stop: Stop | None) -> Nested:
        return normalised(self._preprocessor(image.data, stop), self.settings.preprocess)


def open_tensor_model(
    name: str,
    file: Path,
    preprocessor_of: Callable[[PreprocessSpec], Preprocessor],
    resolve: Resolver = as_it_is,
) -> TensorModel:
    """Looks at a file and at the settings beside it; loads nothing.

    Args:
        name: under which it is served.
        file: of a program.
        preprocessor_of: makes what decodes images.
        resolve: gets the path of the settings before they are opened.

    Raises:
        BundleError: there is no such file, or its settings are wrong.
        EngineError: it is damaged, or no program of torch.
    """
    program = format_of(file)
    if program == ONNX:
        raise EngineError(f"{file}: ONNX cannot be served as a tensor model, only TorchScript and torch.export")
    settings = tensor_settings_of(file, TensorSettings, resolve)
    return TensorModel(name, file, program, settings, preprocessor_of(settings.preprocess))


def normalised(pixels: Pixels, spec: PreprocessSpec) -> NDArray[np.float32]:
    """uint8 [H, W, 3] -> float32 [1, 3, H, W]: (values of 0 to 1 - mean) / std, per channel."""
    mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
    values = (pixels.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(2, 0, 1)[np.newaxis])


def _argument(array: NDArray[Any], is_scalar: bool) -> Nested:
    """Raises InvalidInput: it is text, and the program takes numbers."""
    if is_scalar and array.size == 1:
        value: Nested = array.item()
        return value
    if array.dtype.hasobject:
        raise InvalidInput("This model takes numbers, no text.")
    return array


def _images(given: Input) -> list[Image]:
    return [each for each in given.values if isinstance(each, Image)] if isinstance(given, Arguments) else []
