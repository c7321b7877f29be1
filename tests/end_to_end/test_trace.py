"""The path of an upload is what docs/architecture.md says."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from benchmark.harness.server import ROOT


@pytest.fixture(scope="module")
def steps():
    """The files of each numbered step of the document."""
    text = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    section = text.split("## The path of an upload")[1].split("\n## ")[0]
    numbered = re.split(r"^\d+\. ", section.rpartition("\n\nAn exception")[0], flags=re.MULTILINE)[1:]
    return [re.findall(r"`([\w/]+\.py)(?:: \w+)?`", step) for step in numbered]


@pytest.fixture(scope="module")
def entered():
    """The files that a request enters, in that order."""
    words = [sys.executable, "-m", "tests.end_to_end.trace_request"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [file for file, _ in json.loads(done.stdout)]


def test_the_document_names_the_files_that_a_request_enters_and_no_others(steps, entered):
    assert sorted(file for step in steps for file in step) == sorted(entered)


def test_the_steps_are_in_the_order_of_the_request(steps, entered):
    first = [min(entered.index(file) for file in step) for step in steps]
    assert first == sorted(first)
