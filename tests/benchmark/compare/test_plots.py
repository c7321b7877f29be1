"""The plots of the documents."""

from __future__ import annotations

import json

from benchmark.__main__ import main
from benchmark.compare.plots import draw_latency, draw_throughput


def test_plots_are_drawn_and_the_same_every_time(tmp_path):
    rate = {"median": 100, "min": 90, "max": 120}
    rows = [{"name": "snapserve", "requests_per_s": rate}, {"name": "peer", "requests_per_s": rate}]
    latencies = [
        {"offered_per_s": 50 * n, "latency_ms": {"p50": 9.0 * n, "p99": 20.0 * n, "p99_9": 40.0 * n}}
        for n in (1, 2)
    ]
    for number in (1, 2):
        draw_throughput(rows, "title", tmp_path / f"bars-{number}.svg", limit=150)
        draw_latency(latencies, "title", tmp_path / f"lines-{number}.svg")
    for kind in ("bars", "lines"):
        one, two = ((tmp_path / f"{kind}-{number}.svg").read_text() for number in (1, 2))
        assert one == two
        assert "<!-- title -->" in one


def test_the_documents_plots_are_drawn_from_results(tmp_path):
    rate = {"median": 100, "min": 90, "max": 120}
    machine = {"cpu": "a processor", "cores": 2}
    compared = {
        "machine": machine,
        "options": {"connections": 32, "cores": None},
        "contestants": [{"name": "snapserve", "requests_per_s": rate}],
        "limit": {"images_per_s_rounds": [110, 130, 120]},
    }
    times = {"p50": 9.0, "p99": 20.0, "p99_9": 40.0}
    loaded = {"machine": machine, "rows": [{"load": "peak"}, {"offered_per_s": 50.0, "latency_ms": times}]}
    (tmp_path / "compare.json").write_text(json.dumps(compared))
    (tmp_path / "load.json").write_text(json.dumps(loaded))
    words = ["plots", "--compare", str(tmp_path / "compare.json"), "--load", str(tmp_path / "load.json")]
    assert main([*words, "--output", str(tmp_path)]) == 0
    assert "limit without HTTP: 120" in (tmp_path / "serve-compare.svg").read_text()
    assert "p99.9" in (tmp_path / "latency.svg").read_text()
    words[2] = words[4] = str(tmp_path / "nothing.json")
    assert main(words) == 1
