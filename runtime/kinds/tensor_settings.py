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
from runtime.signature import ANY, DATATYPES, TensorSpec

DEVICES = ("auto", "cpu", "cuda")
_LARGEST_BATCH = 1024


@dataclass(frozen=True)
class TensorSettings:
    """How a model is run.

    Attributes:
        device: one of `DEVICES`; "" takes the server's.
        max_batch_size: most calls that run as one; above 1 their tensors are joined along their first dimension.
        preprocess: what an image among the arguments becomes.
        inputs: names, datatypes and shapes of the arguments, in order; none: what the program's file says.
        outputs: likewise of what is returned.
    """

    device: str = ""
    max_batch_size: int = 1
    preprocess: PreprocessSpec = IMAGENET
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()

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
    read = dict(given)
    if "preprocess" in given:
        read["preprocess"] = preprocess_of(given["preprocess"], f"{where}: preprocess")
    for name in ("inputs", "outputs"):
        if name in given:
            read[name] = _tensors(given[name], f"{where}: {name}")
    return read


def _tensors(given: Any, where: str) -> tuple[TensorSpec, ...]:
    """Raises BundleError."""
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise BundleError(f"{where}: must be a list of objects with name, datatype and shape")
    found = tuple([_tensor(each, where) for each in given])
    if len({each.name for each in found}) < len(found):
        raise BundleError(f"{where}: a name is there twice")
    return found


def _tensor(given: Mapping[str, Any], where: str) -> TensorSpec:
    name, datatype, shape = given.get("name"), given.get("datatype", ANY), given.get("shape")
    if unknown := sorted(given.keys() - {"name", "datatype", "shape"}):
        raise BundleError(f"{where}: unknown field {unknown[0]!r}; there are name, datatype, shape")
    if not isinstance(name, str) or not name:
        raise BundleError(f"{where}: each needs a name")
    if datatype not in DATATYPES:
        raise BundleError(f"{where}: datatype {datatype!r} must be one of {', '.join(DATATYPES)}")
    if shape is not None and not (
        isinstance(shape, list) and all(type(each) is int and each >= -1 for each in shape)
    ):
        raise BundleError(f"{where}: shape {shape!r} must be a list of whole numbers, -1 for any")
    return TensorSpec(name, datatype, None if shape is None else tuple(shape))
