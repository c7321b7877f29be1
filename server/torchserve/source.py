"""Where TorchServe's settings come from: a file that is named, the newest snapshot, or config.properties here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from server.torchserve.settings import CONFIG_VARIABLE, read_file, settings_of
from server.torchserve.snapshots import newest
from server.torchserve_config import SettingsSource
from snapserve.options import build

_LOGS_VARIABLE = "LOG_LOCATION"
_PROTOCOL_VARIABLE, _PROTOCOL = "TS_OPEN_INFERENCE_PROTOCOL", "oip"
_DEFAULT = Path("config.properties")


def torchserve_settings(
    flags: Mapping[str, Any], environment: Mapping[str, str], values: Mapping[str, Any]
) -> dict[str, Any]:
    """Options that config.properties gives, or the newest snapshot; none unless TorchServe's API is on.

    Args:
        flags: of the command line, as for `snapserve.options.build`.
        environment: with `TS_CONFIG_FILE`, which names config.properties, `LOG_LOCATION`, and
            `TS_OPEN_INFERENCE_PROTOCOL`, which is "oip" to turn that protocol on.
        values: of the configuration file.

    Raises:
        ConfigError: a file cannot be read, or a value in it is wrong.
    """
    source = build(SettingsSource, flags, environment, values)
    if not (source.torchserve or source.ts_config):
        return {}
    found: dict[str, Any] = {"torchserve": True}
    if environment.get(_LOGS_VARIABLE) and source.log_location is None:
        found["log_location"] = Path(environment[_LOGS_VARIABLE])
        source = build(SettingsSource, flags, environment, {**found, **values})
    if environment.get(_PROTOCOL_VARIABLE):
        found["ts_open_inference_protocol"] = environment[_PROTOCOL_VARIABLE] == _PROTOCOL
    file = source.ts_config
    if file is None and environment.get(CONFIG_VARIABLE):
        file = found["ts_config"] = Path(environment[CONFIG_VARIABLE])
    if file is None and not source.ncs:
        file = newest(source.snapshots)
    if file is None and _DEFAULT.exists():
        file = found["ts_config"] = _DEFAULT
    return {**settings_of(read_file(file), file, environment), **found} if file else found
