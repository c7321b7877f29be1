"""Closed-loop load by wrk: as many connections as asked, each with one request at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from benchmark.server_process import ROOT

_SCRIPT = ROOT / "benchmark" / "wrk" / "upload.lua"


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
