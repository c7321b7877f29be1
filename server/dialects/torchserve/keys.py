"""`key_file.json`: the keys that requests must have, shared by all processes of the server through the file."""

from __future__ import annotations

import hmac
import json
import logging
import os
import secrets
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from server.config import ConfigError, TorchServeConfig

log = logging.getLogger("snapserve")

FILE = "key_file.json"
KINDS = INFERENCE, MANAGEMENT, API = "inference", "management", "API"
EXPIRING = (MANAGEMENT, INFERENCE)
_SCHEME = "Bearer "
_BYTES = 24  # of chance in a key
_LEAST = 8  # characters of a key: as many as TorchServe's have
_EXPIRY = "expiration time"


@dataclass(frozen=True)
class Key:
    """One key.

    Attributes:
        text: of it.
        expires_at: when it is no longer one; None: never.
    """

    text: str
    expires_at: datetime | None

    @classmethod
    def new(cls, minutes: float | None) -> Key:
        """A random one, valid for so many minutes; None: without an end."""
        return cls(
            secrets.token_urlsafe(_BYTES),
            None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes),
        )

    @classmethod
    def from_json(cls, document: Any) -> Key:
        """Raises AttributeError, KeyError, TypeError, ValueError."""
        expiry, text = document.get(_EXPIRY), document["key"]
        if not isinstance(text, str) or len(text) < _LEAST:
            raise ValueError("no key")
        end = None if expiry is None else datetime.fromisoformat(expiry)
        if end and end.tzinfo is None:
            raise ValueError("a time without its zone")
        return cls(text, end)

    def to_json(self) -> dict[str, str]:
        """As it stands in the file."""
        if self.expires_at is None:
            return {"key": self.text}
        return {"key": self.text, _EXPIRY: self.expires_at.isoformat().replace("+00:00", "Z")}

    def is_in(self, authorization: str) -> bool:
        """Whether a header Authorization has it, `Bearer KEY`; compared in constant time."""
        if not authorization.startswith(_SCHEME):
            return False
        given = authorization.removeprefix(_SCHEME).strip(" ")
        is_equal = hmac.compare_digest(given.encode(errors="replace"), self.text.encode())
        return is_equal and (self.expires_at is None or datetime.now(UTC) < self.expires_at)


class KeyFile:
    """The file, in the process that changes it and in those that read it."""

    def __init__(self, path: Path, minutes: float) -> None:
        """Takes the file as it is; `create` makes it.

        Args:
            path: of the file.
            minutes: after which a new key for inference or management expires.
        """
        self.path = path
        self._minutes = minutes
        self._keys: dict[str, Key] = {}
        self._read: tuple[int, int, int] | None = None

    def create(self) -> None:
        """Makes the file with new keys, in place of one that is there. Raises ConfigError."""
        self._keys = {kind: self._new(kind) for kind in (MANAGEMENT, INFERENCE, API)}
        try:
            self._write()
        except OSError as error:
            hint = "--disable-token-auth does without keys"
            raise ConfigError(f"{self.path}: {error.strerror}, so it cannot hold the keys; {hint}") from None

    def is_allowed(self, kind: str, authorization: str) -> bool:
        """Whether a request may go on.

        Args:
            kind: of key that it needs, one of `KINDS`.
            authorization: its header; "" where there is none.
        """
        self._refresh()
        key = self._keys.get(kind)
        return key is not None and key.is_in(authorization)

    def rotate(self, kind: str) -> None:
        """Replaces a key and its expiry in the file.

        Args:
            kind: one of `EXPIRING`.

        Raises:
            OSError: the file cannot be written; the keys are as before.
        """
        self._refresh()
        before = self._keys
        self._keys = {**before, kind: self._new(kind)}
        try:
            self._write()
        except OSError:
            self._keys = before
            raise

    def _new(self, kind: str) -> Key:
        return Key.new(self._minutes if kind in EXPIRING else None)

    def _refresh(self) -> None:
        """Reads the file if another one has taken its place; one that is gone or damaged is ignored."""
        try:
            now = _identity(self.path.stat())
        except OSError:
            return
        if now == self._read:
            return
        self._read = now
        try:
            document = json.loads(self.path.read_bytes())
            self._keys = {kind: Key.from_json(document[kind]) for kind in KINDS}
        except (OSError, AttributeError, KeyError, TypeError, ValueError):
            log.warning("%s is damaged: the keys that were in it before are valid", self.path)

    def _write(self) -> None:
        """Raises OSError."""
        text = json.dumps({kind: key.to_json() for kind, key in self._keys.items()}, indent=2)
        descriptor, name = tempfile.mkstemp(prefix=f".{FILE}-", dir=self.path.parent)  # with mode 0600
        try:
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
            Path(name).replace(self.path)
        except OSError:
            Path(name).unlink(missing_ok=True)
            raise
        self._read = _identity(self.path.stat())


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_mtime_ns, status.st_size


def key_file(config: TorchServeConfig) -> KeyFile | None:
    """The file in the working directory; None where requests need no keys."""
    needs_none = not config.is_on or config.disable_token_auth
    return None if needs_none else KeyFile(Path.cwd() / FILE, config.token_expiration_min)
