"""What can be served, and the program that runs it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.images.stop import Stop
from runtime.inputs import Input
from runtime.outputs import Output
from runtime.processes.recipe import Recipe
from runtime.signature import TensorSpec

# Kinds of models.
IMAGE_CLASSIFIER, TENSOR_MODEL = "image-classifier", "tensor-model"

Item = TypeVar("Item")
Row = TypeVar("Row")
ItemIn = TypeVar("ItemIn", contravariant=True)
RowOut = TypeVar("RowOut", covariant=True)

IMAGE_CLASSIFIER = "image-classifier"  # kind of models that take an image and give scores


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model before it is loaded.

    Attributes:
        name: under which it is served.
        kind: of model, `IMAGE_CLASSIFIER`, "tensor-model" or "handler".
        architecture: of the network, or what kind of program it is.
        weights: where they come from.
        num_classes: length of a row; 0: rows are no scores.
        max_batch_size: largest batch that pays; 1: items cannot be stacked.
        is_untried: whether it was never run; the optimiser runs what it puts into a bundle.
        version: its number.
        size: of its files, in bytes; 0: unknown.
        inputs: its tensors, in order; none: not known, or it takes none.
        outputs: likewise.
    """

    name: str
    kind: str
    architecture: str
    weights: str
    num_classes: int
    max_batch_size: int
    is_untried: bool = False
    version: str = "1"
    size: int = 0
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()


@dataclass(frozen=True)
class EngineFacts:
    """What is known of an engine once it is loaded.

    Attributes:
        spec: device, precision, threads, as they were resolved on this machine.
        notices: warnings for the operator.
    """

    spec: EngineSpec
    notices: tuple[str, ...] = ()


class Engine(Protocol[ItemIn, RowOut]):
    """The loaded program. Called on one thread, one batch at a time.

    Attributes:
        facts: known once it is loaded.
    """

    facts: EngineFacts

    def infer(self, batch: Sequence[ItemIn]) -> Sequence[RowOut]:
        """Runs a batch. Returns one row per item, in the same order; raises anything."""
        ...

    def warm_up(self) -> None:
        """Runs every batch size that will be served."""
        ...

    def close(self) -> None:
        """Frees memory. The engine is not used afterwards."""
        ...


class Model(Protocol[Item, Row]):
    """One version of something that can be served. Cheap to build, picklable.

    It may have a method `may_take_long(given: Input) -> bool`: whether an input may take long to prepare, told on
    the event loop in microseconds. `prepare` then gets a Stop, which is set when its client has left.

    Attributes:
        facts: known before it is loaded.
        example_file: path of a file to try it with; "" for none.
    """

    facts: ModelFacts
    example_file: str

    def prepare(self, given: Input, stop: Stop | None = None, /) -> Item:
        """Input -> item of a batch, on a thread of the CPU pool.

        Raises:
            ImageError: the image cannot be decoded.
            InvalidInput: it is of a kind that the model does not take.
        """
        ...

    def example(self) -> Input | None:
        """An input that warms up everything between the client and the engine; None where none is known to fit."""
        ...

    def load(self, options: EngineOptions) -> Engine[Item, Row]:
        """Loads the engine, on the thread that will run it. Raises ModelError."""
        ...

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the same engine."""
        ...

    def finish(self, row: Row) -> Output:
        """Row of a batch -> output, on the event loop, in microseconds."""
        ...

    def describe(self, engine: EngineFacts) -> str:
        """Lines about a loaded model, for the terminal; the last ones are warnings."""
        ...

    def document(self, engine: EngineFacts | None, whole: bool) -> dict[str, Any]:
        """What GET /models shows.

        Args:
            engine: None while it is loading.
            whole: with labels and measurements.
        """
        ...
