"""Command line and environment -> Config. Everything here comes from the fields in `server/config.py`."""

from __future__ import annotations

import argparse
import dataclasses
import re
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from server.config import Config, ConfigError, allowed_text, flag, value_text
from snapserve import __version__

_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Config, bool]:
    """Reads the options: a flag wins over the environment, which wins over the default.

    Returns:
        The configuration, and whether it is only to be printed.

    Raises:
        ConfigError: an unknown flag or a wrong value.
        SystemExit: after --help or --version.
    """
    parser = _parser()
    given = vars(parser.parse_args(arguments))
    sections = {}
    for section, kind in _sections():
        values = {}
        for spec in dataclasses.fields(kind):
            if spec.name in given:
                values[spec.name] = _convert(spec, given[spec.name], flag(spec.name))
            elif variable(spec.name) in environment:
                values[spec.name] = _from_environment(spec, environment[variable(spec.name)])
        sections[section] = kind(**values)
    return Config(**sections), given.get("print_config", False)


def variable(name: str) -> str:
    """The environment variable of a field."""
    return f"SNAPSERVE_{name.upper()}"


def config_text(config: Config) -> str:
    """One line per option, flag and value, as `--print-config` shows it."""
    return "\n".join(
        f"{flag(spec.name)} {value_text(spec, getattr(getattr(config, section), spec.name))}".rstrip()
        for section, kind in _sections()
        for spec in dataclasses.fields(kind)
    )


def _sections() -> Iterator[tuple[str, Any]]:
    hints = typing.get_type_hints(Config)
    return ((section.name, hints[section.name]) for section in dataclasses.fields(Config))


class _Parser(argparse.ArgumentParser):
    """Raises instead of printing a usage of forty lines."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return known

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word}: not expected, options begin with --"
        flags = ["--help", *re.findall(r"--[\w-]+", self.format_usage())]
        near = get_close_matches(word.split("=")[0], flags, 1)
        hint = f"did you mean {near[0]}?" if near else "--help lists what is allowed"
        return f"{word}: unknown option, {hint}"


def _parser() -> _Parser:
    parser = _Parser(
        prog="snapserve",
        description="HTTP server for image classifiers: curl -F image=@cat.jpg localhost:8088/classify",
        epilog="Each option is also an environment variable: --batch-timeout-ms is SNAPSERVE_BATCH_TIMEOUT_MS.",
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"snapserve {__version__}")
    parser.add_argument("--print-config", action="store_true", help="print the options in force and exit")
    for _, kind in _sections():
        group = parser.add_argument_group((kind.__doc__ or "").rstrip("."))
        for spec in dataclasses.fields(kind):
            _add(group.add_argument, spec)
    return parser


def _add(add_argument: Callable[..., Any], spec: dataclasses.Field[Any]) -> None:
    text = spec.metadata["help"].replace("%", "%%")
    if spec.type == "bool":
        add_argument(flag(spec.name), action=argparse.BooleanOptionalAction, help=text)
        return
    shown, allowed = value_text(spec, spec.default), allowed_text(spec.metadata)
    notes = "; ".join(filter(None, [allowed, f"default {shown}" if shown else ""]))
    add_argument(
        flag(spec.name),
        action="append" if _repeats(spec) else "store",
        metavar=spec.name.rpartition("_")[2].upper(),
        help=f"{text} ({notes})" if notes else text,
    )


def _repeats(spec: dataclasses.Field[Any]) -> bool:
    return isinstance(spec.default, tuple)


def _from_environment(spec: dataclasses.Field[Any], text: str) -> Any:
    return _convert(spec, text.split(",") if _repeats(spec) else text, variable(spec.name))


def _convert(spec: dataclasses.Field[Any], given: Any, where: str) -> Any:
    kind: Any = type(spec.default)
    if kind is tuple:
        return tuple(word for word in given if word)
    if kind is bool:
        if str(given).lower() not in _BOOLEANS:
            raise ConfigError(f"{where} {given}: must be true or false")
        return _BOOLEANS[str(given).lower()]
    if spec.metadata["auto"] and given == "auto":
        return 0
    try:
        return kind(given)
    except ValueError:
        if spec.metadata["auto"]:
            raise ConfigError(f"{where} {given}: must be {allowed_text(spec.metadata)}") from None
        number = "a whole number" if kind is int else "a number"
        raise ConfigError(f"{where} {given}: must be {number} {allowed_text(spec.metadata)}") from None
