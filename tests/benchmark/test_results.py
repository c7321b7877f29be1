"""The documents' figures are the measured ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.__main__ import main

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["digits", "resnet18"])
def test_the_table_of_policies_is_the_committed_result(name):
    result = json.loads((ROOT / f"benchmark/results/policies-{name}.json").read_text())
    text = (ROOT / "docs/batching.md").read_text()
    assert result["machine"]["cpu"]
    for row in result["rows"]:
        queue = f"| {row['low_queue_p50_ms']:.2f} ms | {row['low_queue_max_ms']:.2f} ms |"
        load = f"| {row['high_p50_ms']:.0f} ms | {row['high_p99_ms']:.0f} ms | {row['high_mean_batch']:.1f} |"
        assert any(queue in line and line.endswith(load) for line in text.splitlines()), row


def test_the_command_line_lists_its_measurements(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    assert "policies" in output
    assert "queue" in output
