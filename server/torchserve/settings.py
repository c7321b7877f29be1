"""TorchServe's settings -> ours: config.properties, and the variables of the environment that beat it."""

from __future__ import annotations

import logging
import re
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.config import Config, ConfigError
from server.torchserve.properties import read_properties
from snapserve.options import Option, options_of

log = logging.getLogger("snapserve")

CONFIG_VARIABLE = "TS_CONFIG_FILE"
SNAPSHOT = "model_snapshot"  # the key of a snapshot's models
_PREFIX = "TS_"
_FROM_ENVIRONMENT = "enable_envvars_config"
_MOST_BYTES = 4_000_000
_VARIABLE = re.compile(r"\$\$(\w+)\$\$", re.ASCII)

# Keys of config.properties -> our options. Every other key has no effect, and is named at the start.
KEYS: Mapping[str, str] = {
    "inference_address": "inference_address",
    "management_address": "management_address",
    "metrics_address": "metrics_address",
    "private_key_file": "private_key_file",
    "certificate_file": "certificate_file",
    "model_store": "model_store",
    "load_models": "models",
    "models": "model_settings",
    "default_workers_per_model": "default_workers_per_model",
    "default_response_timeout": "default_response_timeout",
    "default_startup_timeout": "default_startup_timeout",
    "job_queue_size": "job_queue_size",
    "max_request_size": "max_request_size",
    "max_response_size": "max_response_size",
    "allowed_urls": "allowed_urls",
    "enable_model_api": "enable_model_api",
    "disable_token_authorization": "disable_token_auth",
    "token_expiration_min": "token_expiration_min",
    "metrics_mode": "metrics_mode",
    "cors_allowed_origin": "cors_allowed_origin",
    "cors_allowed_methods": "cors_allowed_methods",
    "cors_allowed_headers": "cors_allowed_headers",
    "decode_input_request": "decode_input_request",
    "service_envelope": "service_envelope",
    "install_py_dep_per_model": "install_requirements",
    "ts_open_inference_protocol": "ts_open_inference_protocol",
    "number_of_gpu": "device",
}
# Values that are written in another way here.
_VALUES: Mapping[str, Mapping[str, str]] = {"number_of_gpu": {"0": "cpu"}, "metrics_mode": {"legacy": "log"}}
_OTHERWISE: Mapping[str, str] = {"number_of_gpu": "auto"}
# Not called TS_KEY: TorchServe's variables are the names of constants in its ConfigManager.java.
_VARIABLES: Mapping[str, str] = {"token_expiration_min": "TS_TOKEN_EXPIRATION_TIME_MIN"}
_URLS, _URLS_FROM_ENVIRONMENT = "allowed_urls", "use_env_allowed_urls"
_NOT_KEPT = ("load_models", "models", "number_of_gpu")  # of a snapshot, which has the archives themselves
_SILENT = (_FROM_ENVIRONMENT, _URLS_FROM_ENVIRONMENT, SNAPSHOT, "version", "tsConfigFile", "vmargs")


def read_file(file: Path) -> dict[str, str]:
    """The properties in a file. Raises ConfigError."""
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(data) > _MOST_BYTES:
        raise ConfigError(f"{file}: is longer than {_MOST_BYTES:,} bytes")
    try:
        return read_properties(data.decode("utf-8"))
    except UnicodeDecodeError:
        return read_properties(data.decode("latin-1"))


def settings_of(properties: Mapping[str, str], file: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """Our options by name, checked. Keys without effect are logged in one line.

    Args:
        properties: of the file.
        file: for messages.
        environment: its variables stand in values as `$$NAME$$`; with `enable_envvars_config` those called
            TS_KEY beat the file, that of allowed_urls with `use_env_allowed_urls`.

    Raises:
        ConfigError: a value is wrong, or names a variable that is not there.
    """
    given = {key: _filled(text, f"{file}: {key}", environment) for key, text in properties.items()}
    if _is_true(given, _FROM_ENVIRONMENT):
        given |= _from_environment(environment, with_urls=_is_true(given, _URLS_FROM_ENVIRONMENT))
    options, found = _options(), {}
    for key in filter(given.__contains__, KEYS):
        if KEYS[key] in options and given[key] != "":
            option = options[KEYS[key]]
            found[option.name] = option.read(_value(key, given[key]), f"{file}: {key}")
    _warn_of_rest(file, given, options)
    return found


def _from_environment(environment: Mapping[str, str], with_urls: bool) -> dict[str, str]:
    """The properties that variables give."""
    names = {key: _VARIABLES.get(key, _PREFIX + key.upper()) for key in KEYS if with_urls or key != _URLS}
    return {key: environment[name] for key, name in names.items() if name in environment}


def _is_true(given: Mapping[str, str], key: str) -> bool:
    return given.get(key, "").lower() == "true"


def texts_of(config: Config) -> dict[str, str]:
    """The properties that give a server these settings, as far as they are not the defaults."""
    values = {name: value for section in vars(config).values() for name, value in vars(section).items()}
    options = _options()
    kept = {key: options[name] for key, name in KEYS.items() if name in options and key not in _NOT_KEPT}
    return {
        key: str(values[option.name]).lower() if option.kind is bool else option.text(values[option.name])
        for key, option in kept.items()
        if values[option.name] != option.default
    }


def _warn_of_rest(file: Path, given: Mapping[str, str], options: Mapping[str, Option]) -> None:
    rest = [key for key in given if KEYS.get(key) not in options and key not in _SILENT]
    if rest:
        log.warning("%s: no effect on this server: %s", file, ", ".join(sorted(rest)))


def _options() -> dict[str, Option]:
    kinds = typing.get_type_hints(Config).values()
    return {option.name: option for kind in kinds for option in options_of(kind)}


def _value(key: str, text: str) -> str:
    words = _VALUES.get(key, {})
    return words.get(text, _OTHERWISE.get(key, text))


def _filled(text: str, where: str, environment: Mapping[str, str]) -> str:
    def value_of(match: re.Match[str]) -> str:
        if match[1] not in environment:
            raise ConfigError(f"{where}: the environment has no variable {match[1]}")
        return environment[match[1]]

    return _VARIABLE.sub(value_of, text)
