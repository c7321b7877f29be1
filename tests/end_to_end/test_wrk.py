"""wrk with the bodies of the C++ ancestor's two scripts, and many connections."""

from __future__ import annotations

import json
import subprocess
import urllib.request

import pytest

from benchmark.harness.server import ROOT


@pytest.mark.parametrize("field", ["file", "image"])
def test_the_ancestors_scripts_get_no_answer_but_200(demo_server, require, field):
    script, image = ROOT / "benchmark/wrk/upload.lua", ROOT / "images/cat.jpg"
    words = [require("wrk"), "-t2", "-c32", "-d2", "-s", script, demo_server + "/classify", "--", field, image]
    output = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    report = json.loads(output.splitlines()[-1])
    assert report["requests"] > 20
    assert report["non_2xx"] == report["socket_errors"] == 0, output


def test_batches_form_under_load(demo_server, require):
    """64 connections give a mean batch size over 4."""
    before = batches(demo_server)
    script, image = ROOT / "benchmark/wrk/upload.lua", next((ROOT / "images").glob("digit-3-*"))
    words = [require("wrk"), "-t1", "-c64", "-d3", "-s", script, demo_server + "/classify", "--", "image", image]
    subprocess.run(words, check=True, capture_output=True)
    after = batches(demo_server)
    assert (after["sum"] - before["sum"]) / (after["count"] - before["count"]) > 4


def batches(url):
    """The batch size histogram's sum (images) and count (batches)."""
    with urllib.request.urlopen(url + "/metrics") as response:
        lines = response.read().decode().splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if line.startswith("snapserve_batch_size_"))
    return {
        kind: float(values[f'snapserve_batch_size_{kind}{{model="digits",version="1"}}'])
        for kind in ("sum", "count")
    }
