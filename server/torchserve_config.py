"""The section of the configuration for TorchServe's API."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from server.config_section import ConfigError, Section
from snapserve.options import option

# Variable with the path of the socket on which the supervisor answers management that shares inference's port.
INNER_VARIABLE = "SNAPSERVE_INNER_SOCKET"


class Address(NamedTuple):
    """Where an API of TorchServe listens.

    Attributes:
        host: name or address.
        port: 0: any free one.
        is_tls: clients speak HTTPS.
    """

    host: str
    port: int
    is_tls: bool = False

    @property
    def url(self) -> str:
        """ "http://127.0.0.1:8080"."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.is_tls else ''}://{host}:{self.port}"


_ADDRESS = re.compile(r"(?:(https?)://)?(?:\[([\da-fA-F:.%]+)\]|([\w.-]+)):(\d{1,5})/?", re.ASCII)


def is_address(text: str) -> bool:
    """Whether a text is HOST:PORT, with or without http:// or https:// before it."""
    match = _ADDRESS.fullmatch(text)
    return match is not None and int(match[4]) <= 65_535


def address_of(text: str) -> Address:
    """What a text names that `is_address` allows."""
    match = _ADDRESS.fullmatch(text)
    assert match is not None
    return Address(match[2] or match[3], int(match[4]), match[1] == "https")


def are_patterns(text: str) -> bool:
    """Whether a text is regular expressions with commas between them."""
    try:
        for each in patterns_of(text):
            re.compile(each)
    except re.error:
        return False
    return True


def patterns_of(text: str) -> list[str]:
    """The regular expressions of a text that has commas between them."""
    return [each.strip() for each in text.split(",") if each.strip()]


_ADDRESS_FORM = "HOST:PORT, http://HOST:PORT or https://HOST:PORT"


@dataclass(frozen=True)
class SettingsSource(Section):
    """Where TorchServe's settings are."""

    torchserve: bool = option(False, "answer TorchServe's inference, management and metrics API, on their ports")
    ts_config: Path | None = option(
        None, "TorchServe's config.properties, which turns --torchserve on; what is said elsewhere wins"
    )
    ncs: bool = option(False, "neither read nor write snapshots of the archives that are served")
    log_location: Path | None = option(
        None, "folder in which snapshots are, below config/; default: the variable LOG_LOCATION, else logs"
    )

    @property
    def snapshots(self) -> Path:
        """The folder of snapshots."""
        return (self.log_location or Path("logs")) / "config"


@dataclass(frozen=True)
class TorchServeConfig(SettingsSource):
    """TorchServe's API."""

    inference_address: str = option(
        "http://127.0.0.1:8080", "address of the inference API", valid=is_address, form=_ADDRESS_FORM
    )
    management_address: str = option(
        "http://127.0.0.1:8081", "address of the management API", valid=is_address, form=_ADDRESS_FORM
    )
    metrics_address: str = option(
        "http://127.0.0.1:8082", "address of the metrics API", valid=is_address, form=_ADDRESS_FORM
    )
    certificate_file: Path | None = option(
        None, "certificate of --grpc-port and of addresses with https, PEM, with its chain"
    )
    private_key_file: Path | None = option(None, "private key of the certificate, PEM, not encrypted")
    models: str = option("", "archives in --model-store that are served from the start: all, or NAME=FILE,…")
    model_settings: str = option(
        "", "settings of those archives by name and version, in JSON, as `models` of config.properties"
    )
    enable_model_api: bool = option(False, "let clients register and unregister archives")
    allowed_urls: str = option(
        "",
        "URLs from which archives may be copied into --model-store: regular expressions of whole URLs, separated "
        "by commas; default: none, only files of --model-store are served",
        valid=are_patterns,
        form="regular expressions",
    )
    default_workers_per_model: int = option(
        0,
        "processes of an archive for which no number is said; auto: of one that is named at the start one per "
        "core, at most 8 and as far as memory allows, of others none",
        0,
        64,
        auto=True,
    )
    default_startup_timeout: int = option(
        120, "longest time to load an archive that sets none, in seconds", 1, 86_400
    )
    job_queue_size: int = option(100, "most requests that wait for an archive that sets none", 1, 1_000_000)
    default_response_timeout: int = option(
        120, "longest time for a batch of an archive that sets none, in seconds", 1, 86_400
    )
    max_request_size: int = option(6_553_500, "largest body of a request, in bytes", 1, 2_000_000_000)
    max_response_size: int = option(
        6_553_500, "largest response of a handler, or part of one, in bytes", 1, 2_000_000_000
    )
    decode_input_request: bool = option(True, "give handlers JSON and text decoded, not as bytes")
    service_envelope: str = option(
        "none",
        "form of requests and responses of handlers",
        choices=("none", "body", "json", "kserve", "kservev2"),
    )
    ts_open_inference_protocol: bool = option(
        False, "answer GET /v2 and the probes /v2/health/… on the inference port, too"
    )
    disable_token_auth: bool = option(False, "answer requests without a key of key_file.json")
    token_expiration_min: float = option(
        60.0, "time after which keys for inference and management expire, in minutes", 0.001, 10_000_000
    )
    metrics_mode: str = option(
        "prometheus", "prometheus: /metrics shows metrics; log: it is empty", choices=("prometheus", "log")
    )
    cors_allowed_origin: str = option("", "text of Access-Control-Allow-Origin in every response")
    cors_allowed_methods: str = option("", "text of Access-Control-Allow-Methods in every response")
    cors_allowed_headers: str = option("", "text of Access-Control-Allow-Headers in every response")

    def __post_init__(self) -> None:
        super().__post_init__()
        others = (self.inference_address, self.management_address)
        metrics = address_of(self.metrics_address)
        if metrics.port and metrics.port in [address_of(each).port for each in others]:
            raise ConfigError(f"--metrics-address {self.metrics_address}: must have a port of its own")
        if (self.certificate_file is None) != (self.private_key_file is None):
            raise ConfigError("--certificate-file and --private-key-file: both are needed, or none")
        secure = [each for each in (*others, self.metrics_address) if address_of(each).is_tls]
        if secure and self.certificate_file is None:
            raise ConfigError(f"{secure[0]}: https needs --certificate-file and --private-key-file")

    @property
    def is_on(self) -> bool:
        """Whether the API is answered."""
        return self.torchserve

    @property
    def inference(self) -> Address:
        """Where the inference API listens."""
        return address_of(self.inference_address)

    @property
    def management(self) -> Address:
        """Where the management API listens; may be where inference does."""
        return address_of(self.management_address)

    @property
    def metrics(self) -> Address:
        """Where the metrics API listens."""
        return address_of(self.metrics_address)
