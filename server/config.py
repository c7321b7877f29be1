"""The configuration tree: each option is written once, here, with its unit, default, range and help."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path

from server.config_section import ConfigError, Section
from server.torchserve_config import TorchServeConfig
from snapserve.options import option

__all__ = [
    "BatchConfig",
    "Config",
    "ConfigError",
    "LimitConfig",
    "ManagementConfig",
    "ModelConfig",
    "ServerConfig",
    "TorchServeConfig",
    "is_root_path",
]

_PATH = re.compile(r"(?:/[\w.~%-]+)+", re.ASCII)
_MAX_PATH = 255


def is_root_path(text: str) -> bool:
    """Whether a text is "" or the path of a proxy's location: /vision, /team/vision."""
    return text == "" or (len(text) <= _MAX_PATH and _PATH.fullmatch(text) is not None)


def is_target(text: str) -> bool:
    """Whether a text is "auto", "off" or a number of milliseconds from 1 to 3,600,000."""
    return text == "off" or is_time_limit(text)


def is_time_limit(text: str) -> bool:
    """Whether a text is "auto" or a number of milliseconds from 1 to 3,600,000."""
    try:
        return text == "auto" or 1 <= float(text) <= 3_600_000
    except ValueError:
        return False


def is_port_or_off(text: str) -> bool:
    """Whether a text is "off" or a port, 0 to 65535."""
    return text == "off" or (text.isdecimal() and text.isascii() and len(text) <= 5 and int(text) <= 65_535)


APIS = ("torch-serving",)


def is_api(text: str) -> bool:
    """Whether a text is the name of an API, or NAME=PORT."""
    name, equals, port = text.partition("=")
    return name in APIS and (not equals or (port.isascii() and port.isdigit() and int(port) <= 65535))


def _is_network(text: str) -> bool:
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class ModelConfig(Section):
    """Models."""

    model: tuple[str, ...] = option(
        (), "bundle folder or TorchScript file, [NAME=]PATH; repeatable, the first is the default model"
    )
    labels: tuple[str, ...] = option(
        (), "label file of a TorchScript file, [NAME=]FILE: JSON, or one label per line; repeatable"
    )
    preprocess: tuple[str, ...] = option(
        (),
        "preprocessing of a TorchScript file, [NAME=]VALUE: imagenet (the default), half (values -1 to 1), "
        "none (0 to 1), raw (0 to 255) or a JSON file; repeatable",
    )
    activation: tuple[str, ...] = option(
        (),
        "activation after a TorchScript file's output, [NAME=]VALUE: softmax, sigmoid or none; default: detected "
        "from the output; repeatable",
    )
    output: tuple[str, ...] = option(
        (), "output of a TorchScript file that holds the scores, [NAME=]KEY or [NAME=]POSITION; repeatable"
    )
    device: str = option("auto", "device that models run on", choices=("auto", "cpu", "cuda"))
    engine: str = option("", "engine of the bundle, by name; default: the engine that the optimiser selected")
    intra_op_threads: int = option(
        0,
        "CPU threads per engine; auto: cores divided by workers; with one worker the bundle's setting",
        0,
        1024,
        auto=True,
    )
    runner: str = option(
        "auto",
        "where an engine runs; thread: in the worker; process: in a process of its own; auto: TorchScript files "
        "in a process, bundles on a thread",
        choices=("auto", "thread", "process"),
    )
    model_store: str = option(
        "", "folder below which models are opened while the server runs, by other APIs and by management"
    )
    allow_code: bool = option(
        False,
        "run packages of torch.package and model archives with code, below --model-store: Python programs, with "
        "all rights of the server",
    )
    install_requirements: bool = option(
        False, "install the packages that a model archive asks for, with pip, into a folder of its own"
    )
    max_models: int = option(
        10,
        "most models per worker that were loaded on first use; the one that was not used for longest gives way; "
        "0: no limit",
        0,
        100_000,
    )
    model_memory_mb: int = option(
        0, "memory for all models, measured, in MB, divided among the workers; 0: no limit", 0, 10_000_000
    )
    engine_processes: int = option(1, "processes per engine and worker, with --runner process", 1, 64)
    engine_spares: int = option(
        1, "further processes that have loaded the engine and replace one that ends, with --runner process", 0, 8
    )
    engine_timeout_ms: str = option(
        "auto",
        "longest time for a batch; an engine that takes longer is ended, and another one is started; auto: 20 "
        "times what an idle model takes for a full batch, at most --request-timeout-ms, at least 5000",
        valid=is_time_limit,
        form="auto or milliseconds between 1 and 3600000",
    )
    engine_memory_mb: int = option(
        0, "memory of an engine's process, in MB beyond that of its libraries; 0: no limit", 0, 1_000_000
    )
    model_journal: Path | None = option(
        None, "file that remembers the models that were added; default: models.json in --model-store"
    )

    @property
    def engine_timeout_s(self) -> float | None:
        """The longest time for a batch in seconds; None: auto."""
        return None if self.engine_timeout_ms == "auto" else float(self.engine_timeout_ms) / 1000


@dataclass(frozen=True)
class BatchConfig(Section):
    """Batching."""

    max_batch_size: int = option(
        0, "largest batch, in images; 0: the fastest size in the bundle's timings, 32 without timings", 0, 1024
    )
    batch_timeout_ms: float = option(
        0.0, "longest wait for a batch to fill; 0: start as soon as the engine is idle", 0, 10_000
    )
    queue_limit: int = option(
        1024, "most images in flight per model, divided among the workers; beyond it 503", 1, 1_000_000
    )
    target_latency_ms: str = option(
        "auto",
        "longest time from acceptance to response; a request that would take longer gets 503 at once; auto: 10 "
        "times what an idle model takes for a full batch, at least 1000, plus --batch-timeout-ms; off: only its "
        "own time limit counts",
        valid=is_target,
        form="auto, off or milliseconds between 1 and 3600000",
    )

    @property
    def target_ms(self) -> float | None:
        """The target latency in milliseconds; 0: auto, None: off."""
        given = self.target_latency_ms
        return {"auto": 0.0, "off": None}.get(given) if given in ("auto", "off") else float(given)


@dataclass(frozen=True)
class LimitConfig(Section):
    """Limits of requests and uploads."""

    max_image_mb: float = option(20.0, "largest image file, in MB of 1,000,000 bytes", 0.001, 2000)
    max_body_mb: float = option(
        64.0, "largest request body, in MB; JSON: 1.5 times --max-image-mb instead", 0.001, 4000
    )
    max_upload_memory_mb: float = option(
        1024.0, "memory for request bodies, in MB, divided among the workers; beyond it 503", 1, 1_000_000
    )
    max_image_mpixels: float = option(50.0, "most megapixels per image, checked before decoding", 0.001, 10_000)
    max_decode_ms: float = option(
        5000.0,
        "longest decoding of an image, in ms of one thread, estimated from its header; beyond it 413",
        1,
        3_600_000,
    )
    decode_memory_mb: int = option(
        0,
        "memory for large images while they are decoded, in MB, divided among the workers; auto: 512 for each",
        0,
        1_000_000,
        auto=True,
    )
    accept_format: tuple[str, ...] = option(
        (),
        "format accepted besides JPEG, PNG and WebP; repeatable",
        choices=("HEIC", "AVIF"),
    )
    max_files: int = option(64, "most images per request", 1, 10_000)
    max_connections: int = option(
        0,
        "most connections, divided among the workers; auto: as many as the descriptor limit allows, at most "
        "10,000 per worker",
        0,
        10_000_000,
        auto=True,
    )
    header_timeout_s: float = option(
        10.0, "time limit for a connection's first byte, and for receiving a request's headers", 0.1, 3600
    )
    body_timeout_s: float = option(
        20.0,
        "time limit for a pause in a request's body, then 408, and for a client that stops reading",
        0.1,
        3600,
    )
    min_body_bytes_per_s: int = option(
        500,
        "lowest average rate of a request's body after --body-timeout-s, then 408; 0: no limit",
        0,
        1_000_000_000,
    )
    request_timeout_ms: float = option(
        30_000.0, "time limit from a request's headers to its response, then 504", 1, 3_600_000
    )


@dataclass(frozen=True)
class ServerConfig(Section):
    """Network, processes and logs."""

    host: str = option("127.0.0.1", "address to listen on")
    port: int = option(8088, "port to listen on; 0: any free port", 0, 65535)
    api: tuple[str, ...] = option(
        (),
        "API of another server, torch-serving; with =PORT on a port of its own; repeatable",
        valid=is_api,
        form="torch-serving or torch-serving=PORT",
    )
    grpc_port: str = option(
        "off",
        "port of the Open Inference Protocol over gRPC, on --host; 0: any free port",
        valid=is_port_or_off,
        form="off or a port between 0 and 65535",
    )
    cors_origin: tuple[str, ...] = option((), "origin allowed by CORS, or *; repeatable")
    workers: int = option(
        0, "worker processes behind the port; auto: one per core, fewer if memory is short", 0, 256, auto=True
    )
    decode_threads: int = option(
        0, "threads per worker that preprocess images; auto: cores divided by workers", 0, 1024, auto=True
    )
    scaled_decode: bool = option(True, "decode large JPEGs at 1/2, 1/4 or 1/8 of their size")
    root_path: str = option(
        "",
        "path prefix at the proxy; X-Forwarded-Prefix overrides it",
        valid=is_root_path,
        form="a path like /vision, without a slash at its end",
    )
    trusted_proxy: tuple[str, ...] = option(
        (),
        "proxy whose X-Forwarded-* headers are trusted; repeatable",
        valid=_is_network,
        form="an address or a network like 10.0.0.0/8",
    )
    shutdown_delay_s: float = option(
        0.0, "time between SIGTERM and the drain: /readyz answers 503, requests are served", 0, 3600
    )
    drain_timeout_s: float = option(30.0, "time limit for finishing the requests in flight on shutdown", 0, 3600)
    keepalive_timeout_s: float = option(75.0, "time until an idle connection is closed", 1, 86_400)
    keepalive_requests: int = option(
        1000, "most requests per connection before it is closed; 0: no limit", 0, 1_000_000_000
    )
    loop: str = option("uvloop", "event loop implementation", choices=("uvloop", "asyncio"))
    log_level: str = option("info", "lowest level to log", choices=("debug", "info", "warning", "error"))
    access_log: bool = option(False, "log one line per request")
    access_log_format: str = option("text", "format of the access log", choices=("text", "json"))
    access_log_probes: bool = option(False, "log requests for /healthz, /readyz and /metrics, too")

    @property
    def apis(self) -> dict[str, int | None]:
        """The further APIs, and the port of each that has one of its own."""
        pairs = (each.partition("=") for each in self.api)
        return {name: int(port) if equals else None for name, equals, port in pairs}


@dataclass(frozen=True)
class ManagementConfig(Section):
    """Management of models."""

    management_port: str = option(
        "off",
        "port on which models are added, switched and removed while the server runs; 0: any free port",
        valid=is_port_or_off,
        form="off or a port between 0 and 65535",
    )
    management_host: str = option("127.0.0.1", "address of --management-port")
    management_token_file: Path | None = option(
        None, "file with the token that requests must have; default: a new one is printed at each start"
    )
    management_timeout_s: float = option(
        300.0, "time limit for loading and checking the models of a change, then it is undone", 1, 86_400
    )

    @property
    def is_on(self) -> bool:
        """Whether models may change while the server runs."""
        return self.management_port != "off"


@dataclass(frozen=True)
class Config:
    """Everything that can be set."""

    models: ModelConfig = field(default_factory=ModelConfig)
    batching: BatchConfig = field(default_factory=BatchConfig)
    limits: LimitConfig = field(default_factory=LimitConfig)
    server: ServerConfig = field(default_factory=ServerConfig)
    management: ManagementConfig = field(default_factory=ManagementConfig)
    torchserve: TorchServeConfig = field(default_factory=TorchServeConfig)
