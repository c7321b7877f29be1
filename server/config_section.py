"""What every section of the configuration is derived from."""

from __future__ import annotations

from snapserve.options import Options


class ConfigError(Exception):
    """A wrong value. The message is one line: the option, the value and what is allowed."""


class Section(Options):
    """Options that belong together."""

    error = ConfigError
