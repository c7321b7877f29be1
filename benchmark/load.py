"""Load on a running server: a lone client, and wrk with many connections."""

from __future__ import annotations

import http.client
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from benchmark.server_process import ROOT

_SCRIPT = ROOT / "benchmark" / "wrk" / "upload.lua"


def lone_client(url: str, picture: Path, requests: int) -> list[dict[str, float]]:
    """One keep-alive connection, one request after the other.

    Returns:
        Per request the server's `timing_ms`, and `latency` as the client saw it, in milliseconds.
    """
    body, timings = picture.read_bytes(), []
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=60)
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("POST", "/classify", body)
        response = connection.getresponse()
        answer = json.loads(response.read())
        if response.status != 200:
            raise RuntimeError(f"the server answered {response.status}: {answer}")
        timings.append({**answer["timing_ms"], "latency": (time.perf_counter() - began) * 1000})
    connection.close()
    return timings


def wrk(url: str, picture: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Closed-loop load by wrk from one thread.

    Returns:
        What `upload.lua` reports: requests, seconds, non_2xx, socket_errors, p50, p90, p99 (milliseconds).
    """
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed; scripts/system-packages.sh installs it")
    words = [program, "-t1", f"-c{connections}", f"-d{seconds:g}", "--timeout", "30s", "-s", str(_SCRIPT)]
    words += [url + "/classify", "--", "image", str(picture)]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    if report["non_2xx"] or report["socket_errors"]:
        raise RuntimeError(f"wrk met errors: {report}")
    return report


def batch_totals(url: str) -> tuple[float, float]:
    """Pictures and batches so far, over all models, from /metrics."""
    with urllib.request.urlopen(url + "/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()

    def total(name: str) -> float:
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name + "{"))

    return total("snapserve_batch_size_sum"), total("snapserve_batch_size_count")
