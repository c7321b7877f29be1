"""Locust's mixed traffic, without its page."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec

import pytest

from benchmark.harness.server import ROOT
from tests.conftest import lacking

WAYS = {"one file", "raw body", "base64", "several files", "broken image", "/metrics", "/models"}


@pytest.fixture(scope="module")
def locust():
    """Runs it against an address; skips where it is missing, and fails there on CI."""
    if find_spec("locust") is None:
        lacking("locust is not installed; pip install -e .[bench] installs it")

    def run(url, folder):
        words = [sys.executable, "-m", "locust", "-f", "benchmark/locustfile.py", "--host", url, "--headless"]
        words += ["--users", "8", "--spawn-rate", "8", "--run-time", "5s", "--stop-timeout", "20"]
        words += ["--json-file", str(folder / "stats"), "--only-summary"]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=90)
        return done, json.loads((folder / "stats.json").read_text())

    return run


def test_all_ways_to_upload_are_answered_rightly(locust, demo_server, tmp_path):
    done, stats = locust(demo_server, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {each["name"] for each in stats} >= WAYS
    assert sum(each["num_failures"] for each in stats) == 0
    assert sum(each["num_requests"] for each in stats) > 50
