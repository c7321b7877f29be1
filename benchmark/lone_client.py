"""A client that is alone: one connection, one request after the other."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from urllib.parse import urlsplit


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
