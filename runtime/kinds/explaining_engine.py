"""An image classifier's engine beside the built-in handler, which explains images. For a process of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from importlib import import_module
from typing import Any

from runtime.kinds import handler_engine
from runtime.kinds.handler_engine import HandlerEngine
from runtime.processes.channel import PartChannel


class ExplainingEngine:
    """Runs images on the engine; what else comes is for the handler, which is loaded when it is first needed.

    Attributes:
        facts: of the engine.
    """

    def __init__(self, engine: Any, load_handler: Callable[[], HandlerEngine]) -> None:
        """Creates it.

        Args:
            engine: of the classifier.
            load_handler: loads the handler, with a network that can be differentiated.
        """
        self.facts = engine.facts
        self._engine = engine
        self._load_handler = load_handler
        self._channel: PartChannel | None = None

    def connect(self, channel: PartChannel) -> None:
        """For the handler."""
        self._channel = channel

    def infer(self, batch: Sequence[Any]) -> Sequence[Any]:
        """Runs a batch of images, and of requests for explanations. Raises what either of them raises."""
        images = [item for item in batch if not isinstance(item, dict)]
        rows = self._engine.infer(images) if images else ()
        if len(images) == len(batch):
            return rows
        left = iter(rows)
        explained = iter(self._handler.infer([item for item in batch if isinstance(item, dict)]))
        return [next(explained) if isinstance(item, dict) else next(left) for item in batch]

    @cached_property
    def _handler(self) -> HandlerEngine:
        handler = self._load_handler()
        if self._channel is not None:
            handler.connect(self._channel)
        return handler

    def warm_up(self) -> None:
        """Runs every batch size that will be served."""
        self._engine.warm_up()

    def close(self) -> None:
        """Frees memory."""
        self._engine.close()


def load_in_child(target: str, engine: Mapping[str, Any], handler: Mapping[str, Any]) -> ExplainingEngine:
    """What a recipe names.

    Args:
        target: "module:attribute" that loads the engine.
        engine: its keyword arguments.
        handler: those of `handler_engine.load_in_child`.

    Raises:
        ModelError: the engine does not load.
    """
    module, _, attribute = target.partition(":")
    loaded = getattr(import_module(module), attribute)(**engine)
    return ExplainingEngine(loaded, partial(handler_engine.load_in_child, **handler))
