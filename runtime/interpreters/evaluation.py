"""What an interpreter is asked to evaluate: expressions, as JSON."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from runtime.interpreters.values import REFERENCES, Tree, Unpacker

# A list: its kind, one of `REFERENCES` with a number, or one of `Evaluation` with what that takes.
Expression = list[Any]


class Evaluation:
    """Evaluates the expressions of one message. Raises whatever they raise."""

    def __init__(self, unpacker: Unpacker) -> None:
        self._unpacker = unpacker

    def of(self, expression: Expression) -> Any:
        """The value."""
        if expression[0] in REFERENCES:
            return self._unpacker.unpack(expression)
        return _KINDS[expression[0]](self, *expression[1:])

    def _constant(self, tree: Tree) -> Any:
        return self._unpacker.unpack(tree)

    def _global(self, module: str, name: str) -> Any:
        """What `from module import name` gives."""
        imported = import_module(module)
        if not hasattr(imported, name) and hasattr(imported, "__path__"):
            return import_module(f"{module}.{name}")
        return getattr(imported, name)

    def _attribute(self, target: Expression, name: str) -> Any:
        return getattr(self.of(target), name)

    def _has(self, target: Expression, name: str) -> bool:
        return hasattr(self.of(target), name)

    def _item(self, target: Expression, key: Tree) -> Any:
        return self.of(target)[self._unpacker.unpack(key)]

    def _call(self, target: Expression, args: list[Tree], kwargs: dict[str, Tree]) -> Any:
        given = {name: self._unpacker.unpack(each) for name, each in kwargs.items()}
        return self.of(target)(*map(self._unpacker.unpack, args), **given)


_KINDS: dict[str, Callable[..., Any]] = {
    "constant": Evaluation._constant,
    "global": Evaluation._global,
    "attribute": Evaluation._attribute,
    "has": Evaluation._has,
    "item": Evaluation._item,
    "call": Evaluation._call,
}
