"""The modules that handlers import as `ts...`: which there are, and where their content is."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

ROOT = "ts"
VERSION = "0.12.0"  # of TorchServe, whose names these are

_OURS = "models.handlers."
# Module of `ts` -> modules of ours whose public names it has. Packages in between are empty.
PROVIDED: dict[str, tuple[str, ...]] = {
    "context": ("context",),
    "handler_utils.timer": ("timing",),
    "handler_utils.utils": ("streaming", "class_list"),
    "metrics.caching_metric": ("metrics.caching_metric",),
    "metrics.dimension": ("metrics.dimension",),
    "metrics.metric": ("metrics.metric",),
    "metrics.metric_type_enum": ("metrics.metric_type_enum",),
    "metrics.metrics_store": ("metrics.metrics_store",),
    "service": ("emitting",),
    "torch_handler.base_handler": ("base_handler",),
    "torch_handler.image_classifier": ("image_classifier",),
    "torch_handler.image_segmenter": ("image_segmenter",),
    "torch_handler.object_detector": ("object_detector",),
    "torch_handler.request_envelope.base": ("envelopes.base",),
    "torch_handler.request_envelope.body": ("envelopes.body",),
    "torch_handler.request_envelope.json": ("envelopes.json",),
    "torch_handler.request_envelope.kserve": ("envelopes.kserve",),
    "torch_handler.request_envelope.kservev2": ("envelopes.kservev2",),
    "torch_handler.text_classifier": ("text_classifier",),
    "torch_handler.text_handler": ("text_handler",),
    "torch_handler.vision_handler": ("vision_handler",),
    "utils.util": ("prediction_exception", "label_mapping", "class_list"),
    "version": (),
}
_PACKAGES = {ROOT} | {
    f"{ROOT}.{name.rsplit('.', depth)[0]}" for name in PROVIDED for depth in range(1, name.count(".") + 1)
}


class TsFinder(MetaPathFinder, Loader):
    """Finds `ts` and what is below it. On `sys.meta_path`, of a child only."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of a module that is provided; None for any other package.

        Raises:
            ModuleNotFoundError: it is a module of `ts` that is not provided.
        """
        if name != ROOT and not name.startswith(f"{ROOT}."):
            return None
        if name in _PACKAGES:
            return ModuleSpec(name, self, is_package=True)
        if name.removeprefix(f"{ROOT}.") in PROVIDED:
            return ModuleSpec(name, self)
        raise ModuleNotFoundError(
            f"SnapServe provides no {name}; an installed torchserve package would be used in its place", name=name
        )

    def create_module(self, spec: ModuleSpec) -> None:
        """The usual kind of module."""

    def exec_module(self, module: ModuleType) -> None:
        """Fills a module with the public names of ours."""
        if module.__name__ in (ROOT, f"{ROOT}.version"):
            module.__version__ = VERSION  # type: ignore[attr-defined]
        for name in PROVIDED.get(module.__name__.removeprefix(f"{ROOT}."), ()):
            found = vars(ours(name))
            vars(module).update({key: value for key, value in found.items() if not key.startswith("__")})


def provide() -> bool:
    """Makes `ts` importable, first of all modules of that name. Returns whether a torchserve package is used."""
    if find_spec(ROOT) is not None:
        utils = import_module("ts.handler_utils.utils")  # its own would write TorchServe's messages to a socket
        own = ours("streaming").send_intermediate_predict_response
        vars(utils)["send_intermediate_predict_response"] = own
        return True
    sys.meta_path.insert(0, TsFinder())
    return False


@cache
def ours(name: str) -> ModuleType:
    """A module of `models.handlers`; one that was imported is found also where a handler's own hides ours."""
    return import_module(_OURS + name)


def import_all() -> None:
    """Imports what the names need, before a handler's own modules hide ours."""
    for name in {each for content in PROVIDED.values() for each in content}:
        ours(name)
