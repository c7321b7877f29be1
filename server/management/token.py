"""The token that a request to the management must have."""

from __future__ import annotations

import hmac
import logging
import secrets
import stat
from pathlib import Path

from server.config import ConfigError

log = logging.getLogger("snapserve")

_LEAST = 16  # characters; those that are made here have 43
_MOST = 1024


class Token:
    """A secret, compared in constant time.

    Attributes:
        text: of the token.
    """

    def __init__(self, text: str) -> None:
        """Takes the token."""
        self.text = text

    @classmethod
    def new(cls) -> Token:
        """A random one."""
        return cls(secrets.token_urlsafe(32))

    @classmethod
    def read(cls, file: Path) -> Token:
        """The token that a file holds, with white space around it.

        Raises:
            ConfigError: it cannot be read, or is no token.
        """
        where = f"--management-token-file {file}"
        try:
            with file.open("rb") as opened:
                data, mode = opened.read(_MOST + 2), file.stat().st_mode
        except OSError as error:
            raise ConfigError(f"{where}: {error.strerror}") from None
        if mode & (stat.S_IRWXG | stat.S_IRWXO):
            log.warning("%s: others on this machine may read it", where)
        text = data.decode("ascii", errors="replace").strip()
        if not _LEAST <= len(text) <= _MOST or not all("!" <= each <= "~" for each in text):
            raise ConfigError(
                f"{where}: must hold {_LEAST} to {_MOST} printable characters of ASCII, without spaces"
            )
        return cls(text)

    def is_in(self, authorization: str) -> bool:
        """Whether the header Authorization has it: `Bearer TOKEN`."""
        scheme, _, given = authorization.partition(" ")
        is_equal = hmac.compare_digest(given.strip().encode(errors="replace"), self.text.encode())
        return is_equal and scheme.lower() == "bearer"
