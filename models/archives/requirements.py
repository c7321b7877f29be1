"""The packages that an archive asks for, in a folder of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path

from models.errors import RequirementsRefused

LIMIT_S = 600.0
_LONGEST_LINE = 300


def install(requirements: Path, into: Path, limit_s: float = LIMIT_S) -> None:
    """Installs packages with pip, for the archive alone.

    Args:
        requirements: file in pip's format; paths in it are relative to its folder.
        into: folder that is made, to be put on `sys.path`.
        limit_s: longest time.

    Raises:
        RequirementsRefused: there is no pip, it fails, or takes too long; the message begins behind the archive's
            name.
    """
    if PathFinder.find_spec("pip") is None:  # not `importlib.util`: setuptools would replace distutils here
        raise RequirementsRefused(f"{requirements.name}: this Python has no pip to install them with")
    pip = (sys.executable, "-P", "-m", "pip")  # -P: it is not a module of the archive
    command = (*pip, "install", "--target", str(into), "--requirement", requirements.name)
    quiet = ("--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--quiet")
    process = subprocess.Popen(
        (*command, *quiet),
        cwd=requirements.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        _, said = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise RequirementsRefused(f"{requirements.name}: not installed within {limit_s:g} s") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise RequirementsRefused(f"{requirements.name}: pip has failed: {_reason(said)}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """With all that it has started."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


def _reason(said: bytes) -> str:
    """Its last error in one line."""
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith("ERROR:")] or lines or ["it printed no reason"]
    return errors[-1].removeprefix("ERROR:").strip()[:_LONGEST_LINE]
