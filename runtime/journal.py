"""The file that remembers which models are served."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path

from models.errors import ModelError
from runtime.model_set import ModelSet
from runtime.model_set_json import from_json, to_json
from runtime.record import RecordError

log = logging.getLogger("snapserve")

_FORMAT = "snapserve models 1"
_MOST_BYTES = 16_000_000


class JournalError(ModelError):
    """A journal that cannot be read or written. The message is one line and names the file."""


class Journal:
    """Holds the committed set, so that it survives the end of the service, in whatever way it ends.

    A write makes a file beside it, which then takes its place: the journal is the old one or the new one, whole.
    """

    def __init__(self, file: Path) -> None:
        """Takes the file, which need not be there; its folder must be. Another server may not have it.

        Raises:
            JournalError: there is no such folder, or another server has the journal.
        """
        self.file = file
        self._new = file.with_name(file.name + ".new")
        try:
            self._lock = os.open(file.with_name(file.name + ".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise JournalError(f"{file}: another server has this journal; --model-journal names another") from None
        except OSError as error:
            raise JournalError(f"{file}: the journal of models cannot be kept here: {error.strerror}") from None

    def read(self, fixed: tuple[str, ...]) -> ModelSet:
        """The committed set; see `read_journal`.

        Raises:
            JournalError: the file is damaged, not a journal or cannot be read.
        """
        return read_journal(self.file, fixed)

    def write(self, models: ModelSet) -> None:
        """Replaces the journal; when it returns, the set survives a loss of power. It blocks.

        Raises:
            JournalError: there is no room, for instance; the journal is as before.
        """
        try:
            with open(self._new, "wb", opener=_private) as opened:
                opened.write(json.dumps(_FORMAT).encode() + b"\n" + to_json(models).encode() + b"\n")
                opened.flush()
                os.fsync(opened.fileno())
            self._new.replace(self.file)
        except OSError as error:
            raise JournalError(f"{self.file}: the journal of models cannot be written: {error.strerror}") from None
        self._sync_folder()

    def _sync_folder(self) -> None:
        """Makes the new name survive a loss of power. A failure undoes nothing: the journal is the new one."""
        try:
            folder = os.open(self.file.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except OSError as error:
            log.warning("%s: a loss of power now may bring the journal before back: %s", self.file, error.strerror)

    def close(self) -> None:
        """Lets another server have it."""
        os.close(self._lock)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def read_journal(file: Path, fixed: tuple[str, ...]) -> ModelSet:
    """The set in a journal, which another server may have; that of the command line where there is no journal.

    Archives whose workers were being started when it was written have none.

    Args:
        file: of the journal.
        fixed: names that the command line gives.

    Raises:
        JournalError: the file is damaged, not a journal or cannot be read.
    """
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES)
    except FileNotFoundError:
        return ModelSet(fixed)
    except OSError as error:
        raise JournalError(f"{file}: the journal of models cannot be read: {error.strerror}") from None
    head, _, rest = data.partition(b"\n")
    if head != json.dumps(_FORMAT).encode():
        raise JournalError(f"{file}: not a journal of models, or damaged")
    try:
        return from_json(rest, fixed).without_starting()
    except RecordError as error:
        raise JournalError(f"{file}: a damaged journal of models: {error}") from None
