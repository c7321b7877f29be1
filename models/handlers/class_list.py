"""Classes that a module defines."""

from __future__ import annotations

import inspect
from importlib import import_module
from types import ModuleType
from typing import Any


def list_classes_from_module(module: ModuleType, parent_class: type | None = None) -> list[type]:
    """The classes that a module defines itself, in the order of their names.

    Args:
        module: that was imported.
        parent_class: only its subclasses; None: all.
    """
    own = [each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == module.__name__]
    return [each for each in own if parent_class is None or issubclass(each, parent_class)]


def import_class(class_name: str, module_prefix: str | None = None) -> Any:
    """A class by "module.name" or "name".

    Args:
        class_name: with its module, unless a prefix is given.
        module_prefix: module of the class.

    Raises:
        ImportError, AttributeError: there is none.
    """
    module, _, name = class_name.rpartition(".")
    parts = [each for each in (module_prefix, module) if each]
    return getattr(import_module(".".join(parts)), name)
