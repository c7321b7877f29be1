"""The documents' figures are the measured ones."""

from __future__ import annotations

import json
import re
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


def test_every_command_is_documented(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    commands = re.findall(r"^    ([a-z-]+)", capsys.readouterr().out, re.MULTILINE)
    assert len(commands) == 27
    text = (ROOT / "docs/benchmark.md").read_text()
    table = text[text.index("## All commands") :]
    assert [name for name in commands if f"`{name}`" not in table] == []


NAMES = {
    "snapserve": "**SnapServe**, its fastest engine (int8)",
    "snapserve-int8-torchscript": "**SnapServe**, the peers' int8 TorchScript file",
    "snapserve-one-worker": "**SnapServe**, its fastest engine, one worker",
    "mosec-one-stage": "mosec, decode and inference in one stage",
    "mosec": "mosec, two stages",
    "litserve-16": "LitServe, batches of 16",
    "litserve": "LitServe, batches of 8",
    "fastapi-tuned": "FastAPI, tuned, no batching",
    "bentoml": "BentoML",
    "snapserve-fp32": "**SnapServe**, fp32",
    "ancestor-workers": "FastAPI port of the C++ ancestor, two processes",
    "ancestor": "FastAPI port of the C++ ancestor, one process",
    "fastapi-plain": "FastAPI, typical code, fp32",
}


def rate_of(row):
    rate = row["requests_per_s"]
    return f"{rate['median']:.0f} ({rate['min']:.0f}-{rate['max']:.0f})"


def compared_row(row):
    """A server under test in the tables of docs/benchmark.md."""
    cells = [rate_of(row)]
    cells += [f"{row[name]['median']:.0f} ms" for name in ("p50", "p99")]
    cells += [f"{row['cpu_ms_per_request']['median']:.1f} ms", f"{row['percent_of_limit']['median']:.0f} %"]
    return "".join(f"| {cell} " for cell in (NAMES[row["name"]], *cells)) + "|"


def test_the_table_of_servers_is_the_committed_result():
    result = load("serve-compare")
    lines = (ROOT / "docs/benchmark.md").read_text().splitlines()
    rows = sorted(result["contestants"], key=lambda row: -row["requests_per_s"]["median"])
    assert {row["name"] for row in rows} == NAMES.keys()
    start = lines.index(compared_row(rows[0]))
    assert lines[start : start + len(rows)] == [compared_row(row) for row in rows]
    assert all(row["wrong"] == row["socket_errors"] == 0 for row in rows)
    assert not result["missing"]


def test_the_readmes_figures_are_the_committed_ones():
    result = load("serve-compare")
    lines = (ROOT / "README.md").read_text().splitlines()
    without_vnni = {row["name"]: rate_of(row) for row in load("serve-compare-avx2")["contestants"]}
    rows = sorted(result["contestants"], key=lambda row: -row["requests_per_s"]["median"])
    shown = [line for line in lines if " ms | " in line]
    expected = [readme_row(row, without_vnni) for row in rows]
    assert shown == [row for row in expected if row in shown]
    # The fastest, the slowest, SnapServe with the peers' file, the best setting of each batching peer.
    for name in (
        "snapserve",
        "fastapi-plain",
        "snapserve-int8-torchscript",
        "mosec-one-stage",
        "bentoml",
        "litserve-16",
    ):
        assert any(line.startswith(f"| {NAMES[name]} |") for line in shown), name


def readme_row(row, without_vnni):
    """A server under test in the README's table."""
    times = f"{row['p99']['median']:.0f} ms | {row['cpu_ms_per_request']['median']:.1f} ms"
    return f"| {NAMES[row['name']]} | {rate_of(row)} | {times} | {without_vnni[row['name']]} |"


def test_the_ratios_in_words_are_the_committed_ones():
    ratios = load("serve-compare")["ratios"]
    text = " ".join((ROOT / "README.md").read_text().split())
    benchmark = " ".join((ROOT / "docs/benchmark.md").read_text().split())
    for ours, peer, words, where in (
        ("snapserve", "fastapi-plain", "times plain FastAPI", text),
        ("snapserve", "fastapi-plain", "times plain FastAPI", benchmark),
        ("snapserve", "ancestor", "times the ancestor's", benchmark),
        ("snapserve-int8-torchscript", "litserve-16", "times LitServe", text),
        ("snapserve-int8-torchscript", "mosec-one-stage", "times mosec", text),
    ):
        ratio = ratios[ours][peer]["requests_per_s"]["median"]
        assert f"{ratio:.1f} {words}" in where or f"{ratio:.2f} {words}" in where, words


def test_the_table_without_vnni_is_the_committed_result():
    result = load("serve-compare-avx2")
    lines = (ROOT / "docs/benchmark.md").read_text().splitlines()
    assert result["shared"] == "fx-int8-onednn"
    assert {row["name"] for row in result["contestants"]} == NAMES.keys()
    for row in result["contestants"]:
        assert compared_row(row) in lines
        assert row["wrong"] == row["socket_errors"] == 0


def test_the_ratios_of_all_runs_are_the_committed_ones():
    earlier = load("serve-compare-earlier")["runs"]
    runs = [
        load("serve-compare")["ratios"],
        *(earlier[name]["ratios"] for name in ("slow-host", "third", "fourth")),
    ]
    lines = (ROOT / "docs/benchmark.md").read_text().splitlines()
    for ours in ("snapserve", "snapserve-int8-torchscript"):
        for peer in ("mosec-one-stage", "mosec", "litserve-16", "litserve"):
            row = " | ".join(_ratio(run[ours].get(peer)) for run in runs)
            assert any(line.endswith(f"| {row} |") for line in lines), (ours, peer)


def _ratio(ratio):
    if ratio is None:
        return "-"
    rate, p99 = ratio["requests_per_s"], ratio["p99"]
    return f"{rate['median']:.2f} ({rate['min']:.2f}-{rate['max']:.2f}), {p99['median']:.2f}"


def test_the_tables_of_the_gpu_are_the_committed_results():
    text = (ROOT / "docs/gpu.md").read_text()
    measured = load("gpu-h100")
    for row in measured["service"]["rows"]:
        assert row["wrong"] == 0
        times = f"{row['p50_ms']:.0f} ms | {row['p99_ms']:.0f} ms | {row['lone_p50_ms']:.1f} ms"
        cost = f"{row['cpu_ms_per_upload']:.1f} ms | {row['gpu_busy_percent']:.0f} %"
        assert f"| {row['workers']} | {row['uploads_per_s']:.0f} | {times} | {cost} |" in text
    for each in measured["engines"]["engines"]:
        cells = (f"{timed['images_per_s']:.0f}" for timed in each["infer"].values())
        assert f"| `{each['name']}` | {' | '.join(cells)} |" in text
    for each in load("engines-h100")["engines"][:3]:
        piece = each["buckets"][-1]
        cells = (f"{each['infer'][size]['images_per_s']:.0f}" for size in ("32", "64", "128", "256"))
        assert f"| pieces of {piece} | {' | '.join(cells)} |" in text


@pytest.mark.parametrize("plot", ["serve-compare.svg", "latency.svg"])
def test_the_plots_are_there_and_shown(plot):
    assert (ROOT / "docs" / plot).read_text(encoding="utf-8").lstrip().startswith("<?xml")
    assert f"]({plot})" in (ROOT / "docs/benchmark.md").read_text()


def test_the_table_of_latencies_is_the_committed_result():
    lines = (ROOT / "docs/benchmark.md").read_text().splitlines()
    for row in load("load")["rows"]:
        times = row["latency_ms"]
        cells = [row["load"], f"{row['answered_per_s']:.0f}"]
        cells += [f"{times[name]:.0f} ms" for name in ("p50", "p99", "p99_9")]
        assert "".join(f"| {cell} " for cell in (*cells, row["wrong"])) + "|" in lines
    verified = load("load-verified")["rows"]
    answers = sum(row["ok"] for row in verified)
    assert answers >= 50_000
    assert sum(row["wrong"] for row in verified) == 0
    assert f"{answers:,} verified answers" in " ".join(lines)


def test_the_other_figures_are_the_committed_ones():
    text = " ".join((ROOT / "docs/performance.md").read_text().split())
    http = load("http")["summary"]
    assert f"{http['requests_per_s']:,.0f} uploads/s, {http['cpu_us']:.0f} µs of CPU each" in text
    lone = load("lone")["summary_ms"]
    assert (
        f"{lone['beside']:.2f} ms beside decode ({lone['decode']:.2f} ms) and inference ({lone['infer']:.2f} ms)"
        in text
    )
    ratio = load("serve-compare")["contestants"]
    rates = {row["name"]: row["requests_per_s"]["median"] for row in ratio}
    assert f"{rates['snapserve'] / rates['snapserve-one-worker']:.2f} times" in text
