"""Results are written in few lines, and read as they were."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmark.harness.results import numbers, read_json, settings, write_json
from benchmark.harness.server import ROOT


def test_a_list_of_numbers_is_one_line_and_so_is_what_fits_into_one(tmp_path):
    value = {
        "rounds_ms": [number / 7 for number in range(100)],
        "rows": [{"name": "é", "of": {}, "rates": (1, 2)}, {"name": "b" * 100, "text": "c"}],
        "none": None,
    }
    file = tmp_path / "result.json"
    write_json(file, value)
    lines = file.read_text().splitlines()
    assert len([line for line in lines if '"rounds_ms": [0.0, ' in line]) == 1
    assert '  {"name": "é", "of": {}, "rates": [1, 2]},' in lines
    assert '   "text": "c"' in lines
    assert read_json(file) == {**value, "rows": [{**value["rows"][0], "rates": [1, 2]}, value["rows"][1]]}


def test_committed_results_are_written_so(tmp_path):
    for file in (ROOT / "benchmark" / "results").glob("*.json"):
        write_json(tmp_path / "again.json", read_json(file))
        assert (tmp_path / "again.json").read_text() == file.read_text(), file


def test_options_are_named_by_their_place_in_the_project():
    options = argparse.Namespace(
        run=print,
        model=ROOT / "models" / "demo",
        image=[Path("/x/a.jpg")],
        rounds=3,
        sizes=numbers("1,2"),
        engine=None,
    )
    expected = {"model": "models/demo", "image": ["a.jpg"], "rounds": 3, "sizes": [1, 2]}
    assert settings(options) == expected
