"""The names of torch that it keeps to itself. They stand here only; tests/test_private_names.py checks them.

Imported by what loads torch anyway; `torch._inductor` and `torch._dynamo` take a second more, on first use.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
import torch._utils

# Name in a file of torch.save -> what makes a tensor or parameter of its storage.
REBUILD: dict[str, Callable[..., Any]] = {
    "_rebuild_tensor": torch._utils._rebuild_tensor,
    "_rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "_rebuild_parameter": torch._utils._rebuild_parameter,
    "_rebuild_parameter_with_state": torch._utils._rebuild_parameter_with_state,
}


def archive_records(file: Path) -> list[str]:
    """The names of the files in an archive of torch.save. Raises RuntimeError for a damaged one."""
    records: list[str] = torch._C.PyTorchFileReader(str(file)).get_all_records()
    return records


def compile_aoti_package(program: torch.export.ExportedProgram, file: Path) -> None:
    """Writes an AOTInductor package, with its weights frozen unless gradients are recorded."""
    torch._inductor.aoti_compile_and_package(program, package_path=str(file), inductor_configs={"freezing": True})


def load_aoti_package(file: Path) -> Any:
    """The program of an AOTInductor package. Raises anything where torch cannot load it."""
    return torch._inductor.aoti_load_package(str(file))


def recompile_limit(compilations: int) -> AbstractContextManager[Any]:
    """Lets torch.compile compile a function so many times."""
    limit: AbstractContextManager[Any] = torch._dynamo.config.patch(recompile_limit=compilations)
    return limit


def shared_descriptor(storage: torch.UntypedStorage) -> int:
    """Moves a storage on the CPU to shared memory, if it is not there, and gives the descriptor that it keeps.

    Raises:
        RuntimeError: there is not enough shared memory.
    """
    descriptor: int = storage._share_fd_cpu_()[0]
    return descriptor
