"""Closed-loop load by wrk: as many connections as asked, each with one request at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.server_process import ROOT

_SCRIPT = ROOT / "benchmark" / "wrk" / "upload.lua"


class Known(NamedTuple):
    """A picture whose answer is known.

    Attributes:
        picture: file that is uploaded.
        first: class that the first prediction names.
        score: of the first prediction, 0 … 1.
    """

    picture: Path
    first: int
    score: float


def wrk(url: str, picture: Path, connections: int, seconds: float) -> dict[str, Any]:
    """Closed-loop load by wrk from one thread.

    Returns:
        What `upload.lua` reports: requests, seconds, non_2xx, socket_errors, p50, p90, p99, p999 (milliseconds).

    Raises:
        RuntimeError: wrk is missing, or met an error.
    """
    report = _run([*_words(url, connections, seconds, threads=1), str(picture)])
    if report["non_2xx"] or report["socket_errors"]:
        raise RuntimeError(f"wrk met errors: {report}")
    return report


def checked_wrk(
    url: str, known: Sequence[Known], connections: int, seconds: float, tolerance: float
) -> dict[str, Any]:
    """Closed-loop load by wrk from one thread per picture, in which every answer's body is checked.

    Args:
        url: of the server.
        known: pictures and their answers; those beyond the number of connections are left out.
        connections: of all threads together.
        seconds: whole ones.
        tolerance: by which a score may differ.

    Returns:
        As of `wrk`, and `checked`, `wrong`, `wrong_example` (the first wrong body). Errors are only counted.
    """
    known = known[:connections]
    arguments = [str(each) for one in known for each in (*one, tolerance)]
    return _run([*_words(url, connections, seconds, threads=len(known)), *arguments])


def _words(url: str, connections: int, seconds: float, threads: int) -> list[str]:
    program = shutil.which("wrk")
    if program is None:
        raise RuntimeError("wrk is not installed; scripts/system-packages.sh installs it")
    words = [program, f"-t{threads}", f"-c{connections}", f"-d{seconds:g}", "--timeout", "30s"]
    return [*words, "-s", str(_SCRIPT), url + "/classify", "--", "image"]


def _run(words: Sequence[str]) -> dict[str, Any]:
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    report: dict[str, Any] = json.loads(output.splitlines()[-1])
    return report
