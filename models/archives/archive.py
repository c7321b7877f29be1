"""What a model archive says of itself, as data. `models/archives/open.py: open_archive` makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

FOLDER = "MAR-INF"
MANIFEST = "MANIFEST.json"


@dataclass(frozen=True)
class Manifest:
    """`MAR-INF/MANIFEST.json`. What it does not name is "".

    Attributes:
        name: of the model, as the archiver was told; it may be served under another one.
        version: of the model; "1.0" where it names none.
        handler: file, module, module:function or the name of a built-in handler.
        serialized_file: TorchScript, a state dict or anything that the handler reads.
        model_file: Python file with the class of an eager model.
        requirements_file: packages for pip.
        config_file: YAML with settings of the model.
        runtime: "python", "python3".
        document: the whole manifest.
    """

    name: str
    version: str
    handler: str
    serialized_file: str = ""
    model_file: str = ""
    requirements_file: str = ""
    config_file: str = ""
    runtime: str = "python"
    document: Mapping[str, Any] = field(default_factory=dict)


class Lease(Protocol):
    """Keeps files on the disk."""

    def release(self, waits: bool = False) -> None:
        """Removes them. waits: until they are gone."""
        ...


@dataclass(frozen=True)
class Archive:
    """A model archive that was checked and lies unpacked.

    Attributes:
        path: of the file or folder in the model store.
        folder: its content; `model_dir` of a handler.
        manifest: what it says of itself.
        config: the whole document of `manifest.config_file`; {} without one.
        packages: folder of the packages in its requirements file, for `sys.path` of its own processes only; None
            where nothing was installed.
        lease: keeps on the disk what was unpacked; None where nothing was.
    """

    path: Path
    folder: Path
    manifest: Manifest
    config: Mapping[str, Any] = field(default_factory=dict)
    packages: Path | None = None
    lease: Lease | None = field(default=None, repr=False, compare=False)

    def release(self, waits: bool = False) -> None:
        """Removes what was unpacked. Without it that is done with the last reference to the archive.

        Args:
            waits: until it is gone, which may take long on an event loop.
        """
        if self.lease is not None:
            self.lease.release(waits)
