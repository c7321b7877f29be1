"""What is known of a program that takes tensors, beside its file."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from models.bundles.settings import Resolver, Settings, as_it_is
from models.bundles.spec import IMAGENET, PreprocessSpec
from models.bundles.text import read_json
from models.errors import BundleError
from models.images.presets import preprocess_of

DEVICES = ("auto", "cpu", "cuda")
_LARGEST_BATCH = 1024


@dataclass(frozen=True)
class TensorSettings:
    """How a model is run.

    Attributes:
        device: one of `DEVICES`; "" takes the server's.
        max_batch_size: most calls that run as one; above 1 their tensors are joined along their first dimension.
        preprocess: what an image among the arguments becomes.
    """

    device: str = ""
    max_batch_size: int = 1
    preprocess: PreprocessSpec = IMAGENET

    def __post_init__(self) -> None:
        if self.device not in ("", *DEVICES):
            raise BundleError(f"device {self.device!r} must be one of {', '.join(DEVICES)}")
        size = self.max_batch_size
        if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= _LARGEST_BATCH:
            raise BundleError(f"max_batch_size {size!r} must be a number from 1 to {_LARGEST_BATCH}")


@dataclass(frozen=True)
class PackageSettings(TensorSettings):
    """How a package is run.

    Attributes:
        pickle: module and file of the object in the package that is called.
    """

    pickle: tuple[str, str] = ("model", "model.pkl")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.pickle, list | tuple) or [type(each) for each in self.pickle] != [str, str]:
            raise BundleError(f"pickle {self.pickle!r} must be the names of a module and of a file in it")
        object.__setattr__(self, "pickle", tuple(self.pickle))


_Kind = TypeVar("_Kind", bound=TensorSettings)


def tensor_settings_of(file: Path, kind: type[_Kind], resolve: Resolver = as_it_is) -> _Kind:
    """The settings in `NAME.json` beside `NAME.pt`.

    Args:
        file: of the program.
        kind: of settings.
        resolve: see `models.bundles.settings.settings_of`.

    Raises:
        BundleError: they are wrong; one line that names the file.
    """
    beside = file.with_suffix(".json")
    if beside == file or not beside.is_file():
        return kind()
    where, document = str(beside), read_json(resolve(beside), "settings file")
    names = [field.name for field in dataclasses.fields(kind)]
    others = {field.name for field in dataclasses.fields(Settings)}  # of the same file as an image classifier
    if not isinstance(document, dict) or (unknown := sorted(document.keys() - {*names, *others})):
        found = f"unknown field {unknown[0]!r}" if isinstance(document, dict) else "no object"
        raise BundleError(f"{where}: {found}; there are {', '.join(names)}")
    try:
        return kind(**_read({name: document[name] for name in names if name in document}, where))
    except BundleError as error:
        raise BundleError(str(error) if str(error).startswith(where) else f"{where}: {error}") from None


def _read(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    if "preprocess" not in given:
        return given
    return {**given, "preprocess": preprocess_of(given["preprocess"], f"{where}: preprocess")}
