"""A model whose files cannot be opened now: it is known, and takes no input."""

from __future__ import annotations

from typing import Any, NoReturn

from models.engines.base import EngineOptions
from models.errors import EngineError
from models.images.stop import Stop
from runtime.errors import InvalidInput
from runtime.inputs import Input
from runtime.model import EngineFacts, ModelFacts

KIND = "unopened"


class UnopenedModel:
    """Stands for a version until its files can be opened.

    Attributes:
        facts: its name and version.
        example_file: none.
    """

    example_file = ""

    def __init__(self, name: str, version: str) -> None:
        """Creates it."""
        self.facts = ModelFacts(name, KIND, "", "", 0, 1, version=version)

    def prepare(self, given: Input, stop: Stop | None = None, /) -> NoReturn:
        """Raises InvalidInput."""
        raise InvalidInput("This model cannot be opened.")

    def example(self) -> None:
        """None."""

    def load(self, options: EngineOptions) -> NoReturn:
        """Raises EngineError."""
        raise EngineError(f"{self.facts.name}: its files cannot be opened")

    def recipe(self, options: EngineOptions) -> NoReturn:
        """Raises EngineError."""
        self.load(options)

    def finish(self, row: Any) -> NoReturn:
        """There are no rows."""
        raise NotImplementedError

    def describe(self, engine: EngineFacts) -> str:
        """A line."""
        return f"  {self.facts.name}: cannot be opened"

    def document(self, engine: EngineFacts | None, whole: bool) -> dict[str, Any]:
        """What GET /models shows."""
        return {"name": self.facts.name, "kind": KIND, "ready": False}
