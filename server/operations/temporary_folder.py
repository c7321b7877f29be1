"""The temporary folder: a library that engines need makes a folder of its own there when it is imported."""

from __future__ import annotations

import tempfile
from pathlib import Path

from server.config import ConfigError

_USUAL = "/tmp"


def name_temporary_folder() -> None:
    """Names one where Python finds none, which a full disk is enough for: folders can be made there still.

    Raises:
        ConfigError: no folder can be made there.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = _USUAL
        _check()


def _check() -> None:
    try:
        Path(tempfile.mkdtemp()).rmdir()
    except OSError as error:
        raise ConfigError(
            f"no temporary folder: {_USUAL}: {error.strerror}; the environment variable TMPDIR names another one"
        ) from None
