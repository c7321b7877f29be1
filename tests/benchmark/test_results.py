"""The documents' figures are the measured ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmark.__main__ import main
from models.optimize.contestant import Setting
from models.optimize.timing import Speed, best_speed

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


def load(name):
    return json.loads((ROOT / f"benchmark/results/{name}.json").read_text())


def speed_of(row):
    speeds = [
        Speed(Setting(each["threads"], each["streams"]), {int(k): v for k, v in each["rounds_ms"].items()})
        for each in row["speeds"]
    ]
    return best_speed(speeds)


def test_the_table_of_engines_is_the_committed_result():
    rows = load("engines-resnet18")["candidates"]
    lines = (ROOT / "docs/engines.md").read_text().splitlines()
    eager = speed_of(rows[0]).best[0]
    assert len(rows) >= 7
    for row in rows:
        speed = speed_of(row)
        best, size = speed.best
        speeds = f"| {best:.0f} | {size}, {speed.setting} | {best / eager:.1f} | {speed.lone_ms:.1f} ms |"
        assert f"| `{row['name']}` {speeds} {row['megabytes']:.0f} | {row['build_s']:.0f} s |" in lines


def test_the_table_of_accuracies_is_the_committed_result():
    lines = (ROOT / "docs/engines.md").read_text().splitlines()
    results = load("engines-digits")["candidates"], load("engines-digits-resnet18")["candidates"]
    for rows in zip(*results, strict=True):
        cells = [f"`{rows[0]['name']}`"]
        for row in rows:
            proof = row["fidelity"]
            assert proof["labelled_images"] == 728
            assert row["refusal"] or proof["reference_accuracy"] - proof["accuracy"] <= 0.005
            cells += [f"{proof['top1_agreement']:.1%}", f"{proof['accuracy']:.1%}"]
        assert "".join(f"| {cell} " for cell in cells) + "|" in lines


def test_the_command_line_lists_its_measurements(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    output = capsys.readouterr().out
    assert "policies" in output
    assert "queue" in output
