"""The limit is of the same work as the server's: each image decoded and run, in rounds that can be repeated."""

from __future__ import annotations

import json
import sys
import threading

import pytest

from benchmark.__main__ import main
from benchmark.harness.server import ROOT
from benchmark.pipeline.limit import Limit, Setting, usual_settings
from benchmark.pipeline.process import Pipeline
from models.bundles.bundle import ModelBundle
from models.engines.base import EngineOptions

DEMO = ROOT / "models" / "demo"


def test_a_image_is_counted_when_it_was_decoded_and_run(monkeypatch):
    """Images per second times seconds are the images that went through both."""
    image = (ROOT / "images" / "digit-3-white-on-black.png").read_bytes()
    pipeline = Pipeline(ModelBundle.load(DEMO), EngineOptions("cpu", 1, max_batch_size=4), 2, [image])
    decoded, sizes, lock = [], [], threading.Lock()
    preprocess, infer = pipeline._preprocess, pipeline._engine.infer

    def counted_preprocess(data):
        with lock:
            decoded.append(data)
        return preprocess(data)

    def counted_infer(batch):
        sizes.append(len(batch))
        return infer(batch)

    monkeypatch.setattr(pipeline, "_preprocess", counted_preprocess)
    monkeypatch.setattr(pipeline._engine, "infer", counted_infer)
    clock = iter(range(1000))
    monkeypatch.setattr("benchmark.pipeline.process.time.perf_counter", lambda: next(clock))
    for _ in range(2):
        done = sum(sizes)
        # Began at n, asked before each of three batches, and once at the end: 4 s.
        assert pipeline.measure(4, 4) * 5 == sum(sizes) - done
    assert sum(sizes) <= len(decoded)
    assert max(sizes) <= 4
    pipeline.close()


def test_rounds_of_several_processes_add_up_and_the_best_batch_size_is_kept():
    with Limit(DEMO, setting=Setting(2, 1, 1), batch_size=8) as limit:
        processes = limit.processes
        assert limit.measure(0.3) > 0
        found = limit.tune((1, 8, 64), seconds=0.2)
        assert set(found) == {1, 8}
        assert limit.batch_size in found
    assert len(processes) == 2 and not any(process.running for process in processes)


def test_a_bundle_that_cannot_run_is_an_error(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="process has failed"), Limit(tmp_path):
        pass
    assert "model.json" in capfd.readouterr().err


def test_the_usual_settings_use_every_core():
    assert usual_settings(4) == [Setting(4, 1, 1), Setting(1, 4, 4)]
    assert usual_settings(1) == [Setting(1, 1, 1)]


STAND_IN = """#!{python}
import sys
threads = int(sys.argv[sys.argv.index("--decode-threads") + 1])
print("ready", flush=True)
for number, line in enumerate(sys.stdin):
    seconds, batch_size = line.split()
    print(100 * threads + 10 * int(batch_size) + (0, 0, 7, 1, 2)[number], flush=True)
"""


@pytest.fixture
def known_rates(tmp_path, monkeypatch):
    """Processes of the limit that measure nothing: each has its rates, by its threads, the batch and the round."""
    program = tmp_path / "python"
    program.write_text(STAND_IN.format(python=sys.executable))
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))


def test_the_command_reports_the_best_setting(known_rates, tmp_path, capsys):
    output = tmp_path / "limit.json"
    words = ["limit", "--model", str(DEMO), "--setting", "2x1", "--setting", "1x1x3", "--batch-sizes", "4,8"]
    assert main([*words, "--rounds", "3", "--seconds", "0.2", "--output", str(output)]) == 0
    result = json.loads(output.read_text())
    two, three = result["rows"]
    assert [row["images_per_s_by_batch_size"] for row in (two, three)] == [
        {"4": 280, "8": 360},
        {"4": 340, "8": 380},
    ]
    assert (two["images_per_s_rounds"], three["images_per_s_rounds"]) == ([374, 362, 364], [387, 381, 382])
    assert (two["images_per_s"], three["images_per_s"]) == (364, 382)
    assert result["limit_per_s"] == 382
    assert result["options"]["model"] == "models/demo"
    assert str(ROOT) not in output.read_text()
    assert "382.0 images/s" in capsys.readouterr().out
