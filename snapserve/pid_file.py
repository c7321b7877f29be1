"""The file that names the server which `torchserve --start` has started."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
from dataclasses import dataclass
from pathlib import Path

_NAME = ".model_server.pid"  # as TorchServe calls it
_PROC = Path("/proc")


@dataclass(frozen=True)
class RunningServer:
    """A process, told from a later one with the same number by the time of its start.

    Attributes:
        pid: its number.
        began: its start, in ticks since that of the machine.
    """

    pid: int
    began: str

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return _start_of(self.pid) == self.began

    @property
    def folder(self) -> Path | None:
        """Its working directory."""
        try:
            return (_PROC / str(self.pid) / "cwd").readlink()
        except OSError:
            return None

    def send(self, number: signal.Signals) -> None:
        """Sends a signal; to one that has ended none."""
        with contextlib.suppress(ProcessLookupError):
            if self.is_running:
                os.kill(self.pid, number)


class PidFile:
    """In the folder of temporary files, one for each user."""

    def __init__(self, folder: Path | None = None) -> None:
        """Names it; folder: where it is."""
        self._path = (folder or Path(tempfile.gettempdir())) / _NAME

    def write(self, pid: int) -> None:
        """Names a process, in place of what is there. Raises OSError."""
        self.remove()
        descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(f"{pid}\n{_start_of(pid)}\n")

    def read(self) -> RunningServer | None:
        """The server that runs; None where none does, or the file is another user's."""
        try:
            with open(self._path, opener=_no_link) as file:
                if os.fstat(file.fileno()).st_uid != os.getuid():
                    return None
                pid, began, *_ = *file.read(200).split(), "", ""
            found = RunningServer(int(pid), began)
        except (OSError, ValueError):
            return None
        return found if began and found.is_running else None

    def remove(self) -> None:
        """Removes it. Raises OSError where it is another user's."""
        self._path.unlink(missing_ok=True)


def _no_link(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW)


def _start_of(pid: int) -> str:
    """Field 22 of /proc/PID/stat (https://docs.kernel.org/filesystems/proc.html); "" of one that has ended."""
    try:
        state, *fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return ""
    return "" if state in ("Z", "X") else fields[18]
