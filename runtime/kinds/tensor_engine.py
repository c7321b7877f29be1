"""Programs of any signature as engines: arguments in, what they return out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from models.bundles.spec import EngineSpec
from models.engines.base import EngineOptions
from models.engines.load_checks import move_constants
from models.engines.open_program import load_exported
from models.engines.torchscript import load_module
from models.errors import EngineError
from models.networks.programs import EXPORT
from runtime.errors import ModelRaised
from runtime.kinds.tensor_batch import join
from runtime.kinds.tensor_values import to_arrays, to_tensors
from runtime.model import EngineFacts
from runtime.values import Nested

Item = tuple[Nested, ...]  # positional arguments, arrays for tensors
Row = tuple[Nested]  # what the call returned

_INTERPRETER = "The following operation failed in the TorchScript interpreter."
_LONGEST_LINE = 1000  # characters
# TorchScript's names of the types that are told apart before a call: Python's binding would convert some of them.
_TYPES = {"TensorType": "Tensor", "IntType": "int", "FloatType": "float", "BoolType": "bool", "StringType": "str"}


class TensorEngine:
    """Calls a program once per item, or once for several where they can be joined.

    Attributes:
        facts: of it.
    """

    def __init__(self, program: Callable[..., Any], facts: EngineFacts, keeps_inputs: bool = False) -> None:
        """Creates it.

        Args:
            program: that is called with tensors.
            facts: of it; items are joined where its `max_batch_size` is above 1.
            keeps_inputs: the program may use the tensors of a call after it.
        """
        self.facts = facts
        self._program = program
        self._device = torch.device(facts.spec.device)
        self._joins = facts.spec.max_batch_size > 1
        self._copies = self._joins or keeps_inputs
        self._schema = getattr(getattr(program, "forward", None), "schema", None)

    def infer(self, batch: Sequence[Item]) -> list[Row]:
        """Runs a batch.

        Args:
            batch: positional arguments of each call.

        Returns:
            A tuple of one value each, whose arrays are owned by the caller.

        Raises:
            ModelRaised: the program raised.
            UnsupportedOutput: it returned what cannot be sent.
        """
        for item in batch:
            self._check(item)
        # A program may write to its input, and an item of a batch that fails is run once more.
        inputs = [to_tensors(item, self._device, copy=self._copies) for item in batch]
        results = self._run_joined(inputs) if self._joins and len(batch) > 1 else None
        if results is None:
            results = [self._call(arguments) for arguments in inputs]
        return [(_arrays(result),) for result in results]

    def warm_up(self) -> None:
        """Nothing: no input is known to fit."""

    def close(self) -> None:
        """Frees the program."""
        del self._program
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _run_joined(self, inputs: Sequence[tuple[Any, ...]]) -> list[Any] | None:
        joined = join(inputs)
        return None if joined is None else joined.split(self._call(joined.arguments))

    def _call(self, arguments: tuple[Any, ...]) -> Any:
        try:
            with torch.no_grad():
                return self._program(*arguments)
        except Exception as error:
            raise ModelRaised(_line(error)) from error

    def _check(self, item: Item) -> None:
        """Checks number and types of the arguments, in the words of libtorch. Raises ModelRaised."""
        if self._schema is None:
            return
        expected = self._schema.arguments
        if len(item) >= len(expected):
            counts = f"at most {len(expected)} argument(s) for operator 'forward', but received {len(item) + 1}"
            raise ModelRaised(f"Expected {counts} argument(s). Declaration: {self._schema}")
        for argument, value in zip(expected[1:], item, strict=False):
            wanted, found = _TYPES.get(argument.type.kind()), _type_of(value)
            if wanted is not None and wanted != found:
                name = argument.name
                raise ModelRaised(
                    f"forward() Expected a value of type '{wanted}' for argument '{name}' but instead found type "
                    f"'{found}'."
                )


def _arrays(result: Any) -> Nested:
    """What can be sent of a result. Raises ModelRaised: a tensor without data, a list that holds itself."""
    try:
        return to_arrays(result)
    except ModelRaised:
        raise
    except Exception as error:
        raise ModelRaised(_line(error)) from error


def _type_of(value: Nested) -> str:
    """TorchScript's name for the type of an argument."""
    if isinstance(value, np.ndarray):
        return "Tensor"
    if isinstance(value, list):
        return "List[Tensor]"
    return "Dict[str, Tensor]" if isinstance(value, dict) else type(value).__name__


def _line(error: Exception) -> str:
    """What an error says in one line: its first, and the last behind TorchScript's stack."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    shown = f"{lines[0]} {lines[-1].strip()}" if lines[0] == _INTERPRETER and len(lines) > 1 else lines[0]
    return shown[:_LONGEST_LINE]


def load(file: Path, kind: str, options: EngineOptions) -> TensorEngine:
    """Loads a program.

    Args:
        file: of it.
        kind: "torchscript" or "torch.export".
        options: `max_batch_size` above 1 says that items may be joined.

    Raises:
        EngineError: it does not load, or its device is not here; one line that names the file.
    """
    facts = facts_of(file, kind, options)
    return TensorEngine(_program(file, kind, facts.spec.device), facts)


def facts_of(file: Path, kind: str, options: EngineOptions) -> EngineFacts:
    """What is known of a program's engine, with its device on this machine. Raises EngineError."""
    on_cuda = torch.cuda.is_available()
    device = ("cuda" if on_cuda else "cpu") if options.device == "auto" else options.device
    if device == "cuda" and not on_cuda:
        raise EngineError(f"{file}: device 'cuda' is not available on this machine")
    spec = EngineSpec(
        kind,
        file.name,
        "",
        device=device,
        memory_format="contiguous",
        max_batch_size=options.max_batch_size,
        threads=options.intra_op_threads,
    )
    return EngineFacts(spec)


def _program(file: Path, kind: str, device: str) -> Callable[..., Any]:
    if kind == EXPORT:
        return _exported(file, device)
    module = load_module(file, device)
    if not hasattr(module, "forward"):
        raise EngineError(f"{file}: has no method forward")
    move_constants(module, device)
    return module


def _exported(file: Path, device: str) -> Callable[..., Any]:
    from torch.export.passes import move_to_device_pass  # imports much

    program = load_exported(file)
    return (program if device == "cpu" else move_to_device_pass(program, device)).module()


def load_in_child(file: str, kind: str, options: Mapping[str, Any]) -> TensorEngine:
    """What a recipe names. Raises EngineError."""
    return load(Path(file), kind, options_in_child(options))


def options_in_child(options: Mapping[str, Any]) -> EngineOptions:
    """The options in a recipe; torch gets their threads."""
    given = EngineOptions(**{**options, "frequent": tuple(options["frequent"])})
    if given.intra_op_threads:
        torch.set_num_threads(given.intra_op_threads)  # before the first operation: of this process alone
    return given
