"""The parts of the comparison that start nothing."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from itertools import pairwise
from pathlib import Path

import pytest
from PIL import Image

from benchmark.__main__ import main
from benchmark.compare import command
from benchmark.compare.bundle import Shared, benchmark_bundle, engine_name, enlarge, shared_engine
from benchmark.compare.candidates import Candidate, all_candidates, chosen
from benchmark.compare.command import tell_missing
from benchmark.compare.match import rotated
from benchmark.compare.plots import draw_latency, draw_throughput
from benchmark.compare.report import difference, percent_of_limit, ratios, spread, summary
from benchmark.harness.clients import Prediction
from benchmark.harness.photos import photos_alike
from benchmark.harness.server import PORT, ROOT, spent_between
from benchmark.peers.environment import PeerMissing
from models.bundles.bundle import ModelBundle
from models.bundles.spec import IMAGENET, EngineSpec, ModelSpec
from models.bundles.table import Table
from models.errors import BundleError


def test_every_candidate_begins_once_and_neighbours_change():
    names = ["a", "b", "c", "d"]
    orders = [rotated(names, number) for number in range(len(names))]
    assert {tuple(sorted(order)) for order in orders} == {tuple(names)}
    assert [order[0] for order in orders] == names
    assert {"ab", "ba"} <= {first + second for order in orders for first, second in pairwise(order)}


def turns(*rates, p99=10.0):
    return [{"requests_per_s": rate, "p99": p99 * number} for number, rate in enumerate(rates, 1)]


def test_a_ratio_is_the_median_of_the_ratios_within_the_rounds():
    """Not the ratio of the medians, which would be 2: the machine was three times as slow in the last round."""
    result = ratios({"snapserve": turns(100, 90, 40), "peer": turns(50, 30, 10)})
    assert result["snapserve"]["peer"]["requests_per_s"]["rounds"] == [2, 3, 4]
    assert result["snapserve"]["peer"]["requests_per_s"]["median"] == 3
    assert result["snapserve"]["peer"]["p99"]["median"] == 1
    assert list(result) == ["snapserve"]


def test_a_peer_that_answered_nothing_has_no_ratio():
    assert ratios({"snapserve": turns(10), "peer": turns(0)})["snapserve"]["peer"]["requests_per_s"] is None


def test_the_limit_is_that_of_the_same_round():
    assert percent_of_limit(turns(90, 40), [100, 50])["rounds"] == [90, 80]


def test_a_summary_has_medians_peaks_totals_and_the_first_wrong_body():
    names = ("requests_per_s", "p50", "p99", "p999", "cpu_ms_per_request", "peak_rss_mb", "pss_mb")
    counts = ("requests", "checked", "wrong", "non_2xx", "socket_errors")
    rows = [
        {**dict.fromkeys(names, value), **dict.fromkeys(counts, value), "wrong_example": example}
        for value, example in ((1, ""), (5, "body"), (3, ""))
    ]
    result = summary(rows)
    assert result["p999"] == {"median": 3, "min": 1, "max": 5, "rounds": [1, 5, 3]}
    assert (result["pss_mb"], result["wrong"], result["wrong_example"]) == (5, 9, "body")
    assert spread([1, 2])["median"] == 1.5


def test_cpu_of_processes_that_come_and_go():
    assert spent_between({1: 2.0, 2: 5.0}, {1: 3.5, 3: 0.5}) == 2.0


def test_answers_are_compared_by_class():
    answers = [[Prediction(1, 0.7), Prediction(0, 0.2)], [Prediction(0, 0.6)]]
    assert difference(answers, [[0.25, 0.75], [0.4, 0.6]]) == {"top1_agreement": 0.5, "max_abs_diff": 0.2}


def test_a_variant_adds_options_and_variables(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    base = Candidate("a", ("-m", "server", "--port", PORT), {"PEER_WORKERS": "2"})
    (variant,) = chosen([base], ["b"], ["b=a --workers 4 PEER_WORKERS=3 OMP_WAIT_POLICY=PASSIVE"])
    assert variant.words(80)[1:] == ["-m", "server", "--port", "80", "--workers", "4"]
    assert variant.surroundings()["PEER_WORKERS"] == "3"
    assert "OMP_NUM_THREADS" not in variant.surroundings()
    assert "OMP_WAIT_POLICY=PASSIVE" in variant.shown()
    with pytest.raises(ValueError, match="'c'"):
        chosen([base], ["c"], [])


def test_a_variant_may_be_another_version_of_the_project(tmp_path):
    base, before = Candidate("a", ("-m", "server", "--port", PORT)), tmp_path / "before"
    with pytest.raises(ValueError, match="holds no checkout"):
        chosen([base], [], [f"b=a CHECKOUT={before}"])
    (before / "server").mkdir(parents=True)
    (variant,) = chosen([base], ["b"], [f"b=a CHECKOUT={before}"])
    there = os.path.relpath(before, ROOT)
    assert variant.shown().startswith(f"cd {there} && ")
    served = dataclasses.replace(variant, module=("--model", str(ROOT / "models" / "demo")))
    assert served.shown().endswith(f" --model {os.path.relpath(ROOT / 'models' / 'demo', before)}")
    assert "CHECKOUT" not in variant.surroundings()
    assert variant.words(80) == base.words(80)
    (before / ".venv" / "bin").mkdir(parents=True)
    (before / ".venv" / "bin" / "python").touch()
    assert variant.words(80)[0] == str(before / ".venv" / "bin" / "python")
    assert variant.shown().startswith(f"cd {there} && .venv/bin/python ")


def test_commands_are_shown_without_the_projects_folder():
    candidate = Candidate("a", ("--model", str(ROOT / "models" / "demo")), {"PEER_BUNDLE": str(ROOT / "models")})
    assert str(ROOT) not in candidate.shown()
    assert candidate.shown().startswith("PEER_BUNDLE=models ")
    assert candidate.shown().endswith(" --model models/demo")


def bundle_of(**engines):
    """A bundle whose manifest names these engines, each by precision."""
    kinds = {"openvino-int8": "openvino", "eager-fp32": "eager"}
    specs = {
        name.replace("_", "-"): EngineSpec(kinds.get(name.replace("_", "-"), "torchscript"), "f.ts", "", precision)
        for name, precision in engines.items()
    }
    spec = ModelSpec("m", "resnet18", 2, "labels.json", IMAGENET, next(iter(specs.values())), engines=specs)
    return ModelBundle(spec, ("a", "b"), Path("nowhere/f.ts"))


def with_table(monkeypatch, **candidates):
    """A table in which candidates take so many milliseconds for a batch of one, or are refused for a reason."""
    rows = [
        {"name": name.replace("_", "-"), "refusal": what}
        if isinstance(what, str)
        else {"name": name.replace("_", "-"), "speeds": [{"threads": 0, "streams": 1, "rounds_ms": {"1": [what]}}]}
        for name, what in candidates.items()
    ]
    monkeypatch.setattr("benchmark.compare.bundle.Table.read", lambda folder: Table({"candidates": rows}))


ALL = {
    "openvino_int8": "int8",
    "torchscript_fp32": "fp32",
    "fx_int8_x86": "int8",
    "fx_int8_onednn": "int8",
    "eager_fp32": "fp32",
}


def test_the_peers_share_the_fastest_file_that_they_can_load(monkeypatch):
    with_table(monkeypatch, openvino_int8=1.0, torchscript_fp32=9.0, fx_int8_x86=5.0, fx_int8_onednn=6.0)
    bundle = bundle_of(**ALL)
    assert shared_engine(bundle) == ("fx-int8-x86", "int8")
    assert shared_engine(bundle, "fx-int8-onednn") == ("fx-int8-onednn", "int8")
    assert engine_name(bundle) == "openvino-int8"
    with pytest.raises(BundleError, match="--shared openvino-int8: the peers load TorchScript files only"):
        shared_engine(bundle, "openvino-int8")


def test_where_fp32_is_the_fastest_that_they_can_load_it_is_shared(monkeypatch):
    """A processor on which int8 was slower, or refused."""
    with_table(monkeypatch, torchscript_fp32=4.0, fx_int8_x86=5.0, fx_int8_onednn=6.0)
    assert shared_engine(bundle_of(**ALL)) == ("torchscript-fp32", "fp32")
    with_table(monkeypatch, torchscript_fp32=4.0, fx_int8_onednn="agrees on 90 %", fx_int8_x86="agrees on 90 %")
    assert shared_engine(bundle_of(torchscript_fp32="fp32", eager_fp32="fp32")).precision == "fp32"
    names = [each.name for each in all_candidates(ROOT, Shared("torchscript-fp32", "fp32"))]
    assert len(names) == len(set(names))
    assert names[:3] == ["snapserve", "snapserve-one-worker", "snapserve-fp32"]


def test_an_engine_that_is_missing_is_named_with_its_reason(monkeypatch):
    with_table(monkeypatch, torchscript_fp32="differs", fx_int8_onednn="agrees on 90 %")
    with pytest.raises(BundleError, match=r"has no engine torchscript-fp32: differs"):
        shared_engine(bundle_of(eager_fp32="fp32"))
    bundle = bundle_of(torchscript_fp32="fp32", eager_fp32="fp32")
    with pytest.raises(BundleError, match=r"has no engine fx-int8-onednn: agrees on 90 %"):
        shared_engine(bundle, "fx-int8-onednn")
    with pytest.raises(BundleError, match=r"has no engine eager-fp32; optimise it anew"):
        shared_engine(bundle_of(torchscript_fp32="fp32"))


def test_what_is_missing_is_told_before_anything_is_built(monkeypatch):
    said = []
    candidates = [Candidate("a", ()), Candidate("b", (), environment="x"), Candidate("c", (), environment="x")]

    def install(self):
        raise PeerMissing("x cannot be installed")

    monkeypatch.setattr(command.Environment, "install", install)
    monkeypatch.setattr(command, "find_spec", lambda name: None if name == "nncf" else object())
    monkeypatch.setattr(command.shutil, "which", lambda name: name)
    tell_missing(candidates, said.append)
    assert [line for line in said if "missing" in line] == [
        "serve-compare: missing: x cannot be installed; so without b, c",
        "serve-compare: missing: nncf; so SnapServe chooses among torch's engines",
    ]
    monkeypatch.setattr(command.shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="wrk"):
        tell_missing(candidates, said.append)


def test_a_wrong_name_ends_the_command_before_anything_is_built(monkeypatch, capsys):
    monkeypatch.setattr("benchmark.compare.command.benchmark_bundle", lambda: pytest.fail("built"))
    assert main(["serve-compare", "--contestants", "nobody"]) == 2
    assert "there is no candidate 'nobody'" in capsys.readouterr().err


def test_a_bundle_gets_imagenets_sizes(tmp_path):
    folder = shutil.copytree(
        ROOT / "models" / "demo", tmp_path / "bundle", ignore=lambda _, names: not_bundle(names)
    )
    spec = enlarge(folder).spec
    assert (spec.preprocess.resize_size, spec.preprocess.crop_size) == (256, 224)
    assert not spec.fidelity
    assert benchmark_bundle(folder) == folder  # it is there: nothing is trained


def not_bundle(names):
    return [name for name in names if not name.endswith((".json", ".safetensors"))]


def test_the_photos_are_alike_in_size_and_weight(tmp_path):
    files = photos_alike(tmp_path)
    assert len({file.read_bytes() for file in files}) == 4
    for file in files:
        assert abs(file.stat().st_size - 64 * 1024) < 4096
        with Image.open(file) as image:
            assert (image.format, image.size) == ("JPEG", (498, 720))


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
