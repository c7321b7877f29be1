"""Handlers of model archives as models: fields in, a reply out."""

from __future__ import annotations

import dataclasses
import re
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from models.archives.archive import Archive
from models.engines.base import EngineOptions
from models.errors import EngineError
from models.handlers.entry import BUILT_IN
from models.images.stop import Stop
from runtime.added_model import ArchiveAsked
from runtime.errors import InvalidInput
from runtime.inputs import Fields, Input
from runtime.kinds import handler_engine
from runtime.kinds.handler_engine import KIND
from runtime.kinds.handler_items import DEFAULT, Front, item_of, reply_of, settings_of
from runtime.kinds.handler_parts import Row
from runtime.model import EngineFacts, ModelFacts
from runtime.outputs import Reply
from runtime.processes.parts import StreamedItem
from runtime.processes.recipe import Recipe

_IMPORTS_TORCH = re.compile(rb"^\s*(?:from|import)\s+(?:ts\.)?torch", re.M)
_LONGEST_CODE = 1 << 20  # bytes of a module in which imports are looked for
_TORCH = "models.handlers.base_handler"  # imports torch, which most handlers need


class HandlerModel:
    """The handler of an archive. Its code runs in processes of its own only.

    Attributes:
        facts: known before it is loaded.
        example_file: none.
        archive: that it is in.
        asked: how it is run.
        front: what stands between clients and the handler.
    """

    example_file = ""

    def __init__(
        self, name: str, archive: Archive, asked: ArchiveAsked, *, version: str = "1", front: Front = DEFAULT
    ) -> None:
        """Creates it; nothing of the archive is imported.

        Args:
            name: under which it is served.
            archive: checked and unpacked.
            asked: how it is run.
            version: under which it is served.
            front: what stands between clients and the handler.
        """
        manifest, size = archive.manifest, max(1, asked.batch_size)
        self.archive = archive
        self.asked = asked
        self.front = front
        self.facts = ModelFacts(
            name, KIND, self.handler, manifest.serialized_file, 0, size, True, version, _size(archive)
        )

    @property
    def handler(self) -> str:
        """File, module, module:function, or the name of a built-in one."""
        return self.asked.handler or self.archive.manifest.handler

    def prepare(self, given: Input, stop: Stop | None = None, /) -> StreamedItem:
        """Fields -> an item: bytes as they are, all else as JSON. Raises InvalidInput: no fields."""
        if not isinstance(given, Fields):
            raise InvalidInput("This model takes fields.")
        return item_of(given)

    def example(self) -> None:
        """No request fits every handler."""

    def load(self, options: EngineOptions) -> NoReturn:
        """Raises EngineError: its code does not run in this process."""
        raise EngineError(f"{self.archive.path}: a handler runs in a process of its own only")

    def recipe(self, options: EngineOptions) -> Recipe:
        """How another process loads the engine."""
        size = self.facts.max_batch_size
        settings = settings_of(self.facts.name, self.archive, self.handler, options, size, self.front)
        target = f"{handler_engine.__name__}:{handler_engine.load_in_child.__name__}"
        preload = (handler_engine.__name__, *([_TORCH] if self._needs_torch else []))
        return Recipe(self.facts.name, target, settings, preload)

    @cached_property
    def _needs_torch(self) -> bool:
        """Whether the processes are forked from one that has imported torch: a handler without it stays small."""
        files = (file for file in self.archive.folder.glob("**/*.py") if file.is_file())
        return self.handler in BUILT_IN or any(map(_imports_torch, files))

    def finish(self, row: Row) -> Reply:
        """What the handler answered."""
        return reply_of(row)

    def describe(self, engine: EngineFacts) -> str:
        """A line, and one for each warning."""
        size = self.facts.max_batch_size
        batches = f"batches up to {size}" if size > 1 else "one request at a time"
        line = f"  {self.facts.name}: handler {self.handler} on {engine.spec.device} ({batches})"
        return "\n  WARNING: ".join((line, *engine.notices))

    def document(self, engine: EngineFacts | None, whole: bool) -> dict[str, Any]:
        """What GET /models shows."""
        return {
            "name": self.facts.name,
            "kind": KIND,
            "architecture": self.handler,
            "ready": engine is not None,
            "engine": dataclasses.asdict(engine.spec) if engine else {},
            "max_batch_size": self.facts.max_batch_size,
        }


def _imports_torch(file: Path) -> bool:
    with file.open("rb") as code:
        return _IMPORTS_TORCH.search(code.read(_LONGEST_CODE)) is not None


def _size(archive: Archive) -> int:
    return sum(file.stat().st_size for file in archive.folder.glob("**/*") if file.is_file())
