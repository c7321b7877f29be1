"""What of a handler is called with a batch."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from models.errors import EngineError
from models.handlers import names
from models.handlers.class_list import list_classes_from_module
from models.handlers.context import Context

Entry = Callable[[Sequence[Any], Context], Any]

# Name of a built-in handler -> module of ours, and class.
BUILT_IN = {
    "base_handler": ("base_handler", "BaseHandler"),
    "image_classifier": ("image_classifier", "ImageClassifier"),
    "image_segmenter": ("image_segmenter", "ImageSegmenter"),
    "object_detector": ("object_detector", "ObjectDetector"),
    "text_classifier": ("text_classifier", "TextClassifier"),
}
_FUNCTION = "handle"


def load_entry(handler: str, context: Context) -> Entry:
    """Imports a handler and prepares it.

    Args:
        handler: file, module, module:function or the name of a built-in one.
        context: of the model; its `model_dir` has the handler's file.

    Returns:
        The function, or the method `handle` of an instance: takes a list with a dict per request, and the context.

    Raises:
        EngineError: it has neither a function nor exactly one class, or there is no such handler.
        Exception: what the handler raised.
    """
    name, _, function = handler.partition(":")
    module = _module(name, Path(context.system_properties["model_dir"]))
    if module is None:
        path, class_name = BUILT_IN[name]
        return _prepared(getattr(names.ours(path), class_name), context)
    found = getattr(module, function or _FUNCTION, None)
    if callable(found) and not isinstance(found, type):
        entry: Entry = found
        entry(None, context)  # type: ignore[arg-type]  # its call without data, with which it loads
        return entry
    classes = [each for each in list_classes_from_module(module) if callable(getattr(each, "handle", None))]
    if len(classes) != 1:
        wanted = f"a function {function or _FUNCTION} or exactly one class with a method handle"
        raise EngineError(f"{name} must define {wanted}; it has {len(classes)} such classes")
    return _prepared(classes[0], context)


def _module(name: str, folder: Path) -> ModuleType | None:
    """The module of a handler; None for a built-in one. Raises EngineError, or what its code raises."""
    stem = name.removesuffix(".py").rpartition("/")[2]
    file = folder / f"{stem}.py"
    if file.is_file():
        return _from_file(stem, file)
    if name in BUILT_IN:
        return None
    if not stem or find_spec(stem) is None:
        raise EngineError(f"there is no handler {name!r} in the archive, and none of that name is built in")
    return import_module(stem)


def _from_file(name: str, file: Path) -> ModuleType:
    """Imports a file, under its name also where another module has it."""
    if (known := sys.modules.get(name)) is not None and getattr(known, "__file__", None) == str(file):
        return known
    spec = spec_from_file_location(name, file)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _prepared(handler: type, context: Context) -> Entry:
    instance = handler()
    if hasattr(instance, "initialize"):
        instance.initialize(context)
    entry: Entry = instance.handle
    return entry
