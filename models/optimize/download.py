"""One file over HTTP: bounded, with a bar, checked against its hash, moved into place when it is whole."""

from __future__ import annotations

import http.client
import re
import socket
import threading
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPResponse
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from models.bundles.bundle import sha256_of
from models.optimize.errors import DownloadError, OptimizeError

CONNECT_LIMIT_S = 15.0

_CHUNK = 1 << 17
# torchvision's files carry the beginning of their SHA-256: resnet18-f37072fd.pth, resnet18_fbgemm_16fa66dd.pth
_HASH_IN_NAME = re.compile(r"[-_]([a-f0-9]{8,64})\.")


def fetch(url: str, folder: Path, console: Console, limit_s: float = CONNECT_LIMIT_S) -> Path:
    """Returns the file of `url` in `folder`, downloading it unless it lies there whole.

    Args:
        url: its last part is the file's name, with the beginning of its SHA-256 in it.
        folder: the cache; made when missing.
        console: where the bar is drawn, on a terminal.
        limit_s: seconds until the server must have answered, finding its address included, and for any
            pause while the file is coming.

    Raises:
        DownloadError: no network, no answer in time, an HTTP error, cut short, or not the expected file.
        OptimizeError: the folder cannot be written.
    """
    address = urlsplit(url)
    file = folder / Path(address.path).name
    expected = _HASH_IN_NAME.search(file.name)
    if expected is None or address.scheme not in ("http", "https"):
        raise DownloadError(f"{url}: expected an http address whose file name holds a hash to check it by")
    partial = folder / f"{file.name}.{uuid.uuid4().hex}.partial"
    try:
        if file.is_file() and sha256_of(file).startswith(expected[1]):
            return file
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("xb") as stream:
            _download(url, stream.write, console, limit_s)
        if not sha256_of(partial).startswith(expected[1]):
            raise DownloadError(f"{url}: what came is not the expected file (its SHA-256 differs)")
        return partial.replace(file)
    except OSError as error:
        raise OptimizeError(f"{file}: cannot be written ({error.strerror})") from None
    finally:
        partial.unlink(missing_ok=True)


def _download(url: str, write: Callable[[bytes], int], console: Console, limit_s: float) -> None:
    with _open(url, limit_s) as response, _bar(console) as bar:
        task = bar.add_task(Path(urlsplit(url).path).name, total=response.length)
        while chunk := _read(response, url):
            write(chunk)
            bar.advance(task, len(chunk))
        if response.length:
            raise DownloadError(f"{url}: the download ended {response.length} bytes too early")


def _read(response: HTTPResponse, url: str) -> bytes:
    try:
        return response.read1(_CHUNK)
    except (OSError, http.client.HTTPException) as error:
        raise DownloadError(f"{url}: the connection broke ({_reason(error)})") from None


def check_reachable(url: str, limit_s: float) -> None:
    """Raises DownloadError unless the server answers something within that many seconds."""
    outcome = _attempt(url, limit_s)
    if isinstance(outcome, Exception) and not isinstance(outcome, urllib.error.HTTPError):
        raise DownloadError(f"{url}: could not be reached ({_reason(outcome)})")
    outcome.close()


def _open(url: str, limit_s: float) -> HTTPResponse:
    outcome = _attempt(url, limit_s)
    if isinstance(outcome, Exception):
        with suppress(AttributeError):
            outcome.close()  # type: ignore[attr-defined]  # an HTTPError holds the connection
        raise DownloadError(f"{url}: could not be downloaded ({_reason(outcome)})")
    return outcome


def _attempt(url: str, limit_s: float) -> HTTPResponse | Exception:
    # A socket's timeout neither bounds the search for the address nor the sum over several addresses, so the
    # whole opening runs in a thread of its own, which is left behind when it takes too long.
    outcome: list[HTTPResponse | Exception] = []

    def attempt() -> None:
        try:
            outcome.append(urllib.request.urlopen(url, timeout=limit_s))
        except Exception as error:
            outcome.append(error)

    thread = threading.Thread(target=attempt, name="download", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not outcome:
        raise DownloadError(f"{url}: no answer within {limit_s:g} s")
    return outcome[0]


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, socket.gaierror):
        return "the server's name is not known; is there a network?"
    if isinstance(cause, TimeoutError):
        return "no answer in time"
    return getattr(cause, "strerror", None) or str(cause) or type(cause).__name__


def _bar(console: Console) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
