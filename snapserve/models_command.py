"""`snapserve models`: manages the models of a server that runs."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from snapserve.management import ManagementError, ModelManagement

_TOKEN_VARIABLE = "SNAPSERVE_MANAGEMENT_TOKEN"
_SETTINGS = ("kind", "labels", "preprocess", "activation", "output", "runner", "processes")
_GOLDEN = {"golden": "folder", "least_agreement": "least_agreement", "max_latency_ms": "max_latency_ms"}

_ARCHIVE = {
    "handler": "handler",
    "batch_size": "batch_size",
    "max_batch_delay_ms": "max_batch_delay_ms",
    "response_timeout_s": "response_timeout_s",
    "startup_timeout_s": "startup_timeout_s",
    "workers": "min_workers",
}


class _Parser(argparse.ArgumentParser):
    """One line for a wrong word, instead of the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Runs one command.

    Returns:
        The exit code: 0 when it is done; 1, with a line that says why, when the server refuses or does not answer.

    Raises:
        SystemExit: after --help; with code 2 for a wrong word.
    """
    words = _parser(environment).parse_args(arguments)
    try:
        answer = _run(words, ModelManagement(words.host, words.port, _token(words, environment), words.timeout_s))
    except ManagementError as error:
        print(f"snapserve models: {error}", file=sys.stderr)
        return 1
    print(json.dumps(answer, indent=2) if words.json else _text(answer))
    return 0


def _run(words: argparse.Namespace, models: ModelManagement) -> dict[str, Any]:
    match words.command:
        case "list":
            return models.show(words.name) if words.name else models.list()
        case "add":
            return models.add(words.name, words.version, words.path, **_settings(words))
        case "remove":
            return models.remove(words.name, words.version)
        case "default":
            return models.set_default(words.name, words.version)
        case "scale":
            return models.scale(words.name, words.version, words.processes)
        case _ if words.version == "off":
            return models.end_shadow(words.name)
    return models.begin_shadow(words.name, words.version, words.share)


def _settings(words: argparse.Namespace) -> dict[str, Any]:
    """What was said of a model that is to be added; what was not is left to the server."""
    flags = {"default": words.default, "on_use": words.on_use}
    said = {name: value for name, value in flags.items() if value}
    said |= {name: getattr(words, name) for name in _SETTINGS if getattr(words, name) is not None}
    if words.no_batching:
        said["batchable"] = False
    golden = {name: getattr(words, flag) for flag, name in _GOLDEN.items() if getattr(words, flag) is not None}
    archive = {name: getattr(words, flag) for flag, name in _ARCHIVE.items() if getattr(words, flag) is not None}
    return {**said, **({"golden": golden} if golden else {}), **({"archive": archive} if archive else {})}


def _token(words: argparse.Namespace, environment: Mapping[str, str]) -> str:
    if words.token_file is None:
        token = environment.get(_TOKEN_VARIABLE, "")
        missing = f"--token-file FILE or {_TOKEN_VARIABLE} must give the token, which the server has printed"
    else:
        try:
            token = words.token_file.read_text(encoding="utf-8", errors="replace").strip()
        except OSError as error:
            raise ManagementError(f"--token-file {words.token_file}: {error.strerror}") from None
        missing = f"--token-file {words.token_file}: holds no token"
    if not (token.isascii() and token.isprintable() and token):
        raise ManagementError(missing)
    return token


def _text(answer: Mapping[str, Any]) -> str:
    models = answer.get("models", [answer])
    lines = [line for model in models for line in _lines(model, model["name"] == answer.get("default"))]
    return "\n".join(lines)


def _lines(model: Mapping[str, Any], is_default: bool) -> list[str]:
    head = model["name"] + (" (default model)" if is_default and "versions" in model else "")
    return (
        [head, *(_line(model, each) for each in model["versions"])] if model["versions"] else [f"{head}: removed"]
    )


def _line(model: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    shadow, number = model["shadow"], version["version"]
    role = "default" if number == model["default"] else ""
    if shadow and number == shadow["version"]:
        role = f"shadow {shadow['share']:.3g}"
    states = ", ".join(f"worker {each['worker']} {each['state']}" for each in version["workers"])
    return f"  {number:10} {role:12} {version.get('path', 'command line'):30} {states}".rstrip()


def _share(text: str) -> float:
    """0.1 or 10%."""
    return float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)


def _parser(environment: Mapping[str, str]) -> argparse.ArgumentParser:
    parser = _Parser(prog="snapserve models", description="Manages the models of a server that runs.")
    port = environment.get("SNAPSERVE_MANAGEMENT_PORT", "")
    file = environment.get("SNAPSERVE_MANAGEMENT_TOKEN_FILE")
    host = environment.get("SNAPSERVE_MANAGEMENT_HOST", "127.0.0.1")
    parser.add_argument("--host", default=host, help=f"--management-host of the server (default {host})")
    parser.add_argument(
        *("--port",),
        type=int,
        default=int(port) if port.isdecimal() else None,
        required=not port.isdecimal(),
        help="--management-port of the server (also SNAPSERVE_MANAGEMENT_PORT)",
    )
    parser.add_argument(
        "--token-file",
        type=Path,
        default=file and Path(file),
        help=f"file with the server's token; else {_TOKEN_VARIABLE} holds the token itself",
    )
    parser.add_argument("--timeout-s", type=float, default=900.0, help="longest wait for an answer (default 900)")
    parser.add_argument("--json", action="store_true", help="print the answer as JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    commands.add_parser("list", help="show all models, or one").add_argument("name", nargs="?")
    _add_addition(commands.add_parser("add", help="add a version"))
    _add_version(commands.add_parser("remove", help="remove a version that is not the default one"))
    _add_version(commands.add_parser("default", help="give a version the requests that name none"))
    scale = _add_version(commands.add_parser("scale", help="run an engine in so many processes per worker"))
    scale.add_argument("processes", type=int)
    shadow = commands.add_parser("shadow", help="run a version beside the default one, unseen by clients")
    shadow.add_argument("name")
    shadow.add_argument("version", help="version, or off")
    shadow.add_argument(
        "share", type=_share, nargs="?", default=0.1, help="of the requests: 0.1 or 10%% (default)"
    )
    return parser


def _add_version(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("name")
    parser.add_argument("version")
    return parser


def _add_addition(parser: argparse.ArgumentParser) -> None:
    _add_version(parser).add_argument("path", help="bundle or file, below the server's --model-store")
    parser.add_argument("--default", action="store_true", help="give it the requests that name no version")
    parser.add_argument(
        "--kind",
        choices=("image", "tensor", "archive"),
        help="an image classifier, any program, or a model archive",
    )
    parser.add_argument("--on-use", action="store_true", help="load it on first use; it may be evicted")
    for name in ("labels", "preprocess", "activation", "output"):
        parser.add_argument(f"--{name}", help="of a TorchScript file, as for the server's option")
    parser.add_argument("--runner", choices=("auto", "thread", "process"), help="where its engine runs")
    parser.add_argument("--processes", type=int, help="of its engine, per worker")
    parser.add_argument("--handler", help="of an archive: in the place of its own")
    parser.add_argument("--batch-size", type=int, help="of an archive: most requests at once")
    parser.add_argument("--max-batch-delay-ms", type=int, help="of an archive: longest wait for a batch to fill")
    parser.add_argument("--response-timeout-s", type=int, help="of an archive: longest time of a batch")
    parser.add_argument("--startup-timeout-s", type=int, help="of an archive: longest time to load")
    parser.add_argument("--workers", type=int, help="of an archive: processes of all workers together")
    parser.add_argument("--no-batching", action="store_true", help="run one item at a time")
    parser.add_argument(
        "--golden", metavar="FOLDER", help='images that it must recognise; "": those of its bundle'
    )
    parser.add_argument("--least-agreement", type=float, help="share of them, 0 to 1")
    parser.add_argument("--max-latency-ms", type=float, help="longest time of one of them")


if __name__ == "__main__":
    sys.exit(main())
