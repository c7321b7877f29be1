"""`torchserve`: starts and stops a server with TorchServe's options, in the background or not."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from typing import NoReturn

from snapserve import __version__
from snapserve.interpreter import module_command
from snapserve.pid_file import PidFile, RunningServer

READY_VARIABLE = "SNAPSERVE_READY_FD"  # descriptor on which the server says that it answers
KEY_FILE = "key_file.json"
_STOP_S = 60.0
_WITHOUT_EFFECT = ("workflow_store", "log_config", "cpp_log_config", "plugins_path")


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] = os.environ) -> int:
    """Runs the command; options that it does not know are the server's (`python -m server --help`).

    Returns:
        The exit code: 0 when it is done; that of the server where it does not start; 1 where another one runs.

    Raises:
        SystemExit: after --help; with code 2 for a wrong option.
    """
    given, further = _parser().parse_known_args(arguments)
    if given.version:
        print(f"TorchServe's command of SnapServe {__version__}")
        return 0
    pid_file = PidFile()
    if given.stop:
        return _stop(pid_file)
    if pid_file.read():
        print("TorchServe is already running, please use torchserve --stop to stop TorchServe.", file=sys.stderr)
        return 1
    for name in _WITHOUT_EFFECT:
        if getattr(given, name):
            print(f"torchserve: --{name.replace('_', '-')} has no effect on this server", file=sys.stderr)
    command = module_command("server", *_options(given), *further)
    if given.foreground:
        _run_instead(command, pid_file, environment)
    return _start(command, pid_file, environment)


def _options(given: argparse.Namespace) -> list[str]:
    """Those of `python -m server`."""
    texts = {
        "--model-store": given.model_store,
        "--models": ",".join(given.models),
        "--ts-config": given.ts_config,
    }
    switches = {
        "--ncs": given.ncs,
        "--disable-token-auth": given.disable_token_auth,
        "--enable-model-api": given.enable_model_api,
    }
    words = [word for flag, text in texts.items() if text for word in (flag, text)]
    return ["--torchserve", *words, *(flag for flag, is_on in switches.items() if is_on)]


def _run_instead(command: Sequence[str], pid_file: PidFile, environment: Mapping[str, str]) -> NoReturn:
    """In this process."""
    _noted(pid_file, os.getpid())
    os.execve(command[0], list(command), dict(environment))


def _start(command: Sequence[str], pid_file: PidFile, environment: Mapping[str, str]) -> int:
    """In the background; returns when it answers, or has ended."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        command,
        env={**environment, READY_VARIABLE: str(writing)},
        stdin=subprocess.DEVNULL,
        pass_fds=(writing,),
        start_new_session=True,
    )
    os.close(writing)
    try:
        is_ready = os.read(reading, 1) != b""
    except KeyboardInterrupt:
        process.terminate()
        is_ready = False
    finally:
        os.close(reading)
    if not is_ready:
        return process.wait() or 1
    return _noted(pid_file, process.pid)


def _noted(pid_file: PidFile, pid: int) -> int:
    """0, unless the process cannot be named in the file."""
    try:
        pid_file.write(pid)
    except OSError as error:
        print(f"torchserve: {error.filename}: {error.strerror}; kill {pid} stops the server", file=sys.stderr)
        return 1
    return 0


def _stop(pid_file: PidFile) -> int:
    running = pid_file.read()
    if running is None:
        print("TorchServe is not currently running.")
        return 0
    folder = running.folder
    running.send(signal.SIGTERM)
    has_ended = _wait(running, _STOP_S)
    if not has_ended:
        running.send(signal.SIGKILL)
        _wait(running, _STOP_S)
    pid_file.remove()
    if folder:
        (folder / KEY_FILE).unlink(missing_ok=True)
    print("TorchServe has stopped." if has_ended else "TorchServe did not stop, and was killed.")
    return 0 if has_ended else 1


def _wait(running: RunningServer, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while running.is_running:
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="torchserve",
        description="Starts and stops a server that answers TorchServe's API: SnapServe.",
        epilog="Further options are those of python -m server.",
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--version", action="store_true", help="print the version")
    switches = {
        "start": "start the server; the default",
        "stop": "stop the server, after the requests that it answers",
        "foreground": "run in the foreground",
        "disable-token-auth": "requests need no keys",
        "enable-model-api": "clients may register and unregister archives",
    }
    for name, text in switches.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    parser.add_argument("--ncs", "--no-config-snapshots", dest="ncs", action="store_true", help="no snapshots")
    parser.add_argument("--model-store", default="", help="folder of the archives")
    parser.add_argument("--models", nargs="*", default=[], metavar="[NAME=]FILE", help="archives to serve, or all")
    parser.add_argument("--ts-config", default="", help="config.properties")
    for name in _WITHOUT_EFFECT:
        parser.add_argument(f"--{name.replace('_', '-')}", default="", help="accepted, without effect")
    return parser


if __name__ == "__main__":
    sys.exit(main())
