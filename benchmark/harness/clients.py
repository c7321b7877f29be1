"""Clients: a single upload, a client that is alone, closed-loop load by wrk, and a reader of /metrics."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import types
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import urlsplit

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

FORM_TYPE = "multipart/form-data; boundary=----SnapServeBenchmark"
_BOUNDARY = b"------SnapServeBenchmark"
_UPLOAD, _POST = (Path(__file__).parents[1] / "wrk" / name for name in ("upload.lua", "post.lua"))


@dataclass(frozen=True)
class Prediction:
    """One class of an answer. score: 0 … 1."""

    index: int
    score: float


Answer = list[Prediction]  # the best first


def form(image: bytes, filename: str = "image") -> bytes:
    """The body of a request of the type `FORM_TYPE`: the image as the form field `image`."""
    head = f'Content-Disposition: form-data; name="image"; filename="{filename}"\r\n'
    head += "Content-Type: application/octet-stream\r\n\r\n"
    return b"".join((_BOUNDARY, b"\r\n", head.encode(), image, b"\r\n", _BOUNDARY, b"--\r\n"))


def ask(url: str, image: Path, timeout_s: float = 60.0) -> Answer:
    """Uploads an image.

    Raises:
        OSError: there is no answer, or not one with 2xx (urllib.error.HTTPError).
        ValueError: the answer is not SnapServe's JSON.
    """
    body = form(image.read_bytes(), image.name)
    request = urllib.request.Request(url + "/classify", body, {"Content-Type": FORM_TYPE})
    with urllib.request.urlopen(request, timeout=timeout_s) as response:
        return read_answer(response.read())


def read_answer(body: bytes) -> Answer:
    """The predictions of a body. A list of one answer (BentoML's) is that answer."""
    document: Any = json.loads(body)
    if isinstance(document, list) and len(document) == 1:
        document = document[0]
    try:
        return [Prediction(int(each["index"]), float(each["score"])) for each in document["predictions"]]
    except (KeyError, TypeError):
        raise ValueError(f"not an answer of predictions: {body[:200]!r}") from None


def lone_client(url: str, image: Path, requests: int) -> list[dict[str, float]]:
    """Uploads of an image, one after the other.

    Returns:
        Per request the server's `timing_ms`, and `latency` from the first byte sent to the last received, in
        milliseconds.
    """
    timings = []
    for seconds, answer in lone_posts(url + "/classify", image.read_bytes(), requests):
        timings.append({**json.loads(answer)["timing_ms"], "latency": seconds * 1000})
    return timings


def lone_posts(
    url: str, body: bytes, requests: int, headers: Mapping[str, str] = types.MappingProxyType({})
) -> list[tuple[float, bytes]]:
    """One keep-alive connection, one request after the other, by a bare socket.

    http.client would take a third of a millisecond per request.

    Returns:
        Per request the seconds from the first byte sent to the last received, and the body of the answer.

    Raises:
        RuntimeError: an answer is not 200.
    """
    place, taken = urlsplit(url), []
    path = f"{place.path}?{place.query}" if place.query else place.path
    head = f"POST {path} HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    request = f"{head}\r\n".encode() + body
    with socket.create_connection((place.hostname, place.port), timeout=60) as connection:
        stream = connection.makefile("rb")
        for _ in range(requests):
            began = time.perf_counter()
            connection.sendall(request)
            status, answer = _receive(stream)
            taken.append((time.perf_counter() - began, answer))
            if status != 200:
                raise RuntimeError(f"the server answered {status}: {answer.decode()}")
    return taken


def _receive(stream: BinaryIO) -> tuple[int, bytes]:
    status, length = int(stream.readline().split()[1]), 0
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, stream.read(length)


class Known(NamedTuple):
    """An image whose answer is known.

    Attributes:
        image: file that is uploaded.
        first: class that the first prediction names.
        score: of the first prediction, 0 … 1.
    """

    image: Path
    first: int
    score: float


def wrk(url: str, image: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Closed-loop load by wrk from one thread: each connection has one request at a time.

    Returns:
        What `upload.lua` reports: requests, seconds, non_2xx, socket_errors, p50, p90, p99, p999 (milliseconds).

    Raises:
        RuntimeError: wrk is missing, or met an error.
    """
    words = [url + "/classify", "--", "image", str(image)]
    return _without_errors(_run_wrk(_UPLOAD, connections, seconds, 1, words))


def body_wrk(
    url: str,
    body: bytes,
    connections: int,
    seconds: float,
    headers: Mapping[str, str] = types.MappingProxyType({}),
) -> dict[str, Any]:
    """As `wrk`, with a body that is posted to any URL; `post.lua` reports no p90 and p999.

    Raises:
        RuntimeError: wrk is missing, or met an error.
    """
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        words = [url, "--", file.name, *(word for pair in headers.items() for word in pair)]
        return _without_errors(_run_wrk(_POST, connections, seconds, 1, words))


def _without_errors(report: dict[str, Any]) -> dict[str, Any]:
    if report["non_2xx"] or report["socket_errors"]:
        raise RuntimeError(f"wrk met errors: {report}")
    return report


def checked_wrk(
    url: str, known: Sequence[Known], connections: int, seconds: float, tolerance: float
) -> dict[str, Any]:
    """Closed-loop load by wrk from one thread per image, in which every answer's body is checked.

    Args:
        url: of the server.
        known: images and their answers; those beyond the number of connections are left out.
        connections: of all threads together.
        seconds: whole ones.
        tolerance: by which a score may differ.

    Returns:
        As of `wrk`, and `checked`, `wrong`, `wrong_example` (the first wrong body). Errors are only counted.
    """
    known = known[:connections]
    words = [str(each) for one in known for each in (*one, tolerance)]
    words = [url + "/classify", "--", "image", *words]
    return _run_wrk(_UPLOAD, connections, seconds, len(known), words)


def _run_wrk(
    script: Path, connections: int, seconds: float, threads: int, arguments: Sequence[str]
) -> dict[str, Any]:
    """wrk's report. arguments: the URL, "--", and those of the script."""
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed; scripts/system-packages.sh installs it")
    words = [program, f"-t{threads}", f"-c{connections}", f"-d{seconds:g}", "--timeout", "30s"]
    words += ["-s", str(script), *arguments]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    return report


def scrape(url: str) -> list[Sample]:
    """All samples of the server at `url`."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        text = response.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def total(samples: list[Sample], name: str) -> float:
    """The sum of the samples of that name, over all labels."""
    return sum(sample.value for sample in samples if sample.name == name)
