"""Files of weights, read without running anything that is in them, whatever is wrapped around the weights."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from safetensors.torch import load_file

from models.bundles.paths import is_file
from models.networks.architectures import COUNTER, StateDict, build_network, misfit_of
from models.optimize import inert_pickle
from models.optimize.choice import WeightsChoice
from models.optimize.errors import UsageError
from models.optimize.inert_pickle import Inert

_DEEPEST = 5  # dicts inside dicts
# Where a file holds several sets of weights: those of the plain model before averaged ones.
_PREFERRED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
_AVERAGED = ("ema", "swa", "average")
# Names of modules around a network: DataParallel's, torch.compile's, Lightning's, and what people call them.
_WRAPPERS = (
    "module",
    "_orig_mod",
    "model",
    "net",
    "network",
    "backbone",
    "encoder",
    "base_model",
    "classifier_model",
)


@dataclass(frozen=True)
class Checkpoint:
    """Weights that fit a network.

    Attributes:
        state: tensors by the network's own names.
        note: where in the file they were, in one line; "" for a plain state dict.
    """

    state: StateDict
    note: str


def read_checkpoint(file: Path, expected: Mapping[str, torch.Tensor], key: str = "") -> Checkpoint:
    """Finds the weights of a network in a file: .safetensors, or torch.save's format.

    They may lie in dicts inside dicts, and all their names may begin with the names of modules around the network.
    Missing BatchNorm counters are those of `expected`.

    Args:
        file: the checkpoint.
        expected: the network's own state dict.
        key: which set of weights to take, where there are several, e.g. "model_ema".

    Raises:
        UsageError: missing, damaged, or it holds no such weights; one line that names the file and what to do.
    """
    document = _load(file)
    _refuse_modules(file, document)
    sets = dict(_sets(document))
    if not sets:
        raise UsageError(f"{file}: holds no weights (names with tensors)")
    found = [match for path, tensors in sets.items() for match in _matches(path, tensors, expected)]
    if not found:
        raise UsageError(f"{file}: {_nearest(sets, expected)}")
    best = _best(file, found, key)
    for name, tensor in best.state.items():
        if not tensor.isfinite().all():
            raise UsageError(f"{file}: {name} holds values that are not finite: its training has failed")
    return Checkpoint(best.state, _note(file, best, [each.name for each in found if each is not best]))


def _best(file: Path, found: Sequence[_Match], key: str) -> _Match:
    names = ", ".join(repr(match.name) for match in found)
    if key:
        named = [match for match in found if key in (match.name, match.name.rpartition(".")[2])]
        if len(named) != 1:
            raise UsageError(f"{file}: --checkpoint-key {key}: must be one of {names}")
        return named[0]
    first, *others = sorted(found, key=_rank)
    if others and _rank(first) == _rank(others[0]):
        raise UsageError(f"{file}: several sets of weights in it fit: {names}; name one with --checkpoint-key")
    return first


def fitting_state(file: Path, choice: WeightsChoice, num_classes: int, console: Console) -> StateDict:
    """Reads the weights of the architecture that was chosen, and says where in the file they were.

    Raises:
        UsageError: as `read_checkpoint`.
    """
    expected = build_network(choice.architecture, num_classes, options=choice.options).state_dict()
    try:
        found = read_checkpoint(file, expected, choice.checkpoint_key)
    except UsageError as error:
        given = f"as {choice.architecture} with {num_classes} classes"
        raise UsageError(str(error).replace(f"{file}: ", f"{file}: {given}: ", 1)) from None
    if found.note:
        console.print(found.note, markup=False, highlight=False, soft_wrap=True)
    return found.state


def _load(file: Path) -> Any:
    if not is_file(file):
        raise UsageError(f"{file}: no such file")
    try:
        if file.suffix == ".safetensors":
            return load_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about pickles that it then refuses
            return _load_pickled(file)
    except UsageError:
        raise
    # A damaged file is met with KeyError, IndexError, struct.error … as it comes.
    except Exception:
        raise UsageError(f"{file}: damaged, or neither safetensors nor written by torch.save") from None


def _load_pickled(file: Path) -> Any:
    if inert_pickle.is_archive(file) and inert_pickle.is_program(file):
        command = f"python -m server --model {file} --labels LABELS"
        raise UsageError(f"{file}: a TorchScript program, not weights; it is served as it is: {command}")
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if inert_pickle.is_archive(file):
            return inert_pickle.read(file)
        if "Unsupported global" not in str(error):
            raise
        raise UsageError(
            f"{file}: more than weights, in torch.save's old format; where its code is, write the weights alone: "
            f"torch.save(torch.load({str(file)!r}, weights_only=False)…, 'weights.pth'), a state dict for …"
        ) from None


def _refuse_modules(file: Path, document: Any) -> None:
    """A pickled module needs its own code to be opened; only there can its weights be taken out."""
    plain = isinstance(document, dict) and not isinstance(document, Inert)
    values = dict(document) if plain else {"": document}
    modules = {name: value for name, value in values.items() if _is_module(value)}
    if not modules or any(isinstance(value, dict) and not isinstance(value, Inert) for value in values.values()):
        return  # weights may lie beside it
    name, module = next(iter(modules.items()))
    part = f"[{name!r}]" if name else ""
    raise UsageError(
        f"{file}: holds a whole pickled module ({module.original()}), which only its own code can open; there: "
        f"torch.save(torch.load({str(file)!r}, weights_only=False){part}.state_dict(), 'weights.pth')"
    )


def _is_module(value: Any) -> bool:
    return isinstance(value, Inert) and isinstance(value.state, dict) and "_modules" in value.state


def _sets(document: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """Every dict with tensors, by its path in the document."""
    if not isinstance(document, dict) or depth > _DEEPEST:
        return
    tensors = {str(name): value for name, value in document.items() if isinstance(value, torch.Tensor)}
    if tensors:
        yield path, tensors
    for name, value in document.items():
        yield from _sets(value, f"{path}.{name}" if path else str(name), depth + 1)


@dataclass(frozen=True)
class _Match:
    """Weights that fit.

    Attributes:
        state: tensors by the network's names.
        path: of their dict in the document.
        prefix: what their names begin with there.
        left_out: names of other tensors beside them.
    """

    state: StateDict
    path: str
    prefix: str
    left_out: tuple[str, ...]

    @property
    def name(self) -> str:
        """Path and prefix, without dots at the ends."""
        return ".".join(filter(None, (self.path, self.prefix.rstrip("."))))


def _matches(path: str, tensors: Mapping[str, torch.Tensor], expected: StateDict) -> list[_Match]:
    """The network's weights among tensors: once for each beginning of names that fits."""
    names = {name.replace("_orig_mod.", ""): name for name in tensors}
    anchor = max((name for name in expected if not name.endswith(COUNTER)), key=len, default="")
    prefixes = {name.removesuffix(anchor) for name in names if name.endswith(anchor)}
    prefixes = {prefix for prefix in prefixes if not prefix or prefix.endswith(".")}
    candidates = [_beginning_with(prefix, names, expected) for prefix in sorted(prefixes)]
    found = [_fitting(path, each, tensors, expected, anchor) for each in candidates]
    matches = [match for match in found if match]
    # Else parts of the network may lie in different modules.
    stripped = {_without_wrappers(name): names[name] for name in names}
    if not matches and len(stripped) == len(names):
        matches = [match for match in [_fitting(path, stripped, tensors, expected, anchor)] if match]
    return matches


def _beginning_with(prefix: str, names: Mapping[str, str], expected: StateDict) -> dict[str, str]:
    """Names in the file by what follows the prefix; without one, those that begin like the network's own."""
    if prefix:
        return {name.removeprefix(prefix): full for name, full in names.items() if name.startswith(prefix)}
    parts = {name.partition(".")[0] for name in expected}
    return {name: full for name, full in names.items() if name.partition(".")[0] in parts}


def _fitting(
    path: str, names: Mapping[str, str], tensors: Mapping[str, torch.Tensor], expected: StateDict, anchor: str
) -> _Match | None:
    """names: of tensors in the file, by what the network may call them."""
    if misfit_of({name: tensors[names[name]] for name in names}, expected):
        return None
    state = {name: tensors[names[name]] if name in names else tensor for name, tensor in expected.items()}
    taken = {names[name] for name in expected if name in names}
    left_out = tuple(name for name in tensors if name not in taken)
    first = names[anchor]
    return _Match(state, path, first.removesuffix(anchor) if first.endswith(anchor) else "", left_out)


def _without_wrappers(name: str) -> str:
    first, dot, rest = name.partition(".")
    return _without_wrappers(rest) if dot and first in _WRAPPERS else name


def _rank(match: _Match) -> tuple[bool, int]:
    """Sorts sets of weights: the plain model's first."""
    averaged = any(word in match.name.lower() for word in _AVERAGED)
    last = match.path.rpartition(".")[2].lower()
    return averaged, _PREFERRED.index(last) if last in _PREFERRED else len(_PREFERRED)


def _note(file: Path, match: _Match, others: Sequence[str]) -> str:
    facts = [f"under {match.path!r}"] if match.path else []
    facts += [f"whose names begin with {match.prefix!r}"] if match.prefix else []
    facts += [f"left out: {_few(match.left_out)}"] if match.left_out else []
    facts += [f"others that fit: {_few(others)} (--checkpoint-key)"] if others else []
    return f"{file}: took the weights {', '.join(facts)}" if facts else ""


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _nearest(sets: Mapping[str, Mapping[str, torch.Tensor]], expected: StateDict) -> str:
    """Why the largest set of weights does not fit, and how its names look."""
    path, tensors = max(sets.items(), key=lambda item: len(item[1]))
    names = list(tensors)
    where = f" under {path!r}" if path else ""
    return f"{misfit_of(tensors, expected)}; the file's names{where} are like {_few(names)}"
