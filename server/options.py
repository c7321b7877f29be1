"""Command line, environment and configuration file -> Config."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

from server.config import Config, ConfigError
from server.torchserve.source import torchserve_settings
from snapserve import __version__
from snapserve.config_file import read_config_file
from snapserve.options import OptionParser, Options, build, options_of

CONFIG_VARIABLE = "SNAPSERVE_CONFIG"
SECTIONS: Mapping[str, type[Options]] = typing.get_type_hints(Config)


def parse_config(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[Config, bool]:
    """Reads the options: a flag overrides the environment, which overrides the file, which overrides the default.

    With `--torchserve`, config.properties or the newest snapshot stands between the file and the default.

    Returns:
        The configuration, and whether it is only to be printed.

    Raises:
        ConfigError: an unknown flag, a wrong value or a wrong file.
        SystemExit: after --help or --version.
    """
    given = vars(_parser().parse_args(arguments))
    file = given.get("config", environment.get(CONFIG_VARIABLE, ""))
    values = read_config_file(Path(file), SECTIONS, ConfigError) if file else {}
    values = torchserve_settings(given, environment, values) | values
    sections = {name: build(kind, given, environment, values) for name, kind in SECTIONS.items()}
    return Config(**sections), given.get("print_config", False)  # type: ignore[arg-type]


def config_text(config: Config) -> str:
    """One line per option, flag and value, as `--print-config` shows it."""
    return "\n".join(
        f"{each.flag} {each.text(getattr(getattr(config, section), each.name))}".rstrip()
        for section, kind in SECTIONS.items()
        for each in options_of(kind)
    )


def _parser() -> OptionParser:
    parser = OptionParser(
        ConfigError,
        prog="snapserve",
        description="HTTP server for image classifiers: curl -F image=@cat.jpg localhost:8088/classify",
        epilog="Each option is also an environment variable: --batch-timeout-ms is SNAPSERVE_BATCH_TIMEOUT_MS.",
    )
    parser.add_argument("--version", action="version", version=f"snapserve {__version__}")
    parser.add_argument("--print-config", action="store_true", help="print the options in force and exit")
    parser.add_argument("--config", metavar="FILE", help=f"configuration file, TOML (also {CONFIG_VARIABLE})")
    for kind in SECTIONS.values():
        parser.add_options(kind)
    return parser
