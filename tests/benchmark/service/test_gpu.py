"""The one command for a machine with a GPU, as far as it goes without one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from benchmark.__main__ import missing_packages
from benchmark.service import gpu
from benchmark.service.gpu import BusyCard

OPTIONS = argparse.Namespace(device="cuda", limit_s=60.0, output=None, workers=None)


def test_what_is_missing_is_named_at_once_and_before_it_is_imported():
    blocked = "import sys; sys.modules['multipart'] = sys.modules['orjson'] = None; "
    code = blocked + "from benchmark.__main__ import main; sys.exit(main(['gpu']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "benchmark: these packages are missing: multipart orjson\n"


def test_nothing_is_missing_here():
    assert missing_packages() == []


def test_without_a_card_it_says_so(monkeypatch, capsys):
    monkeypatch.setattr(gpu, "describe_gpu", lambda: None)
    assert gpu.run(OPTIONS) == 2
    assert capsys.readouterr().err == "benchmark gpu: torch sees no CUDA device here; --device cpu rehearses\n"


@pytest.fixture
def parts(monkeypatch):
    """Replaces what takes minutes; the limit fails, the engines would come too late."""

    def limit(*_):
        raise RuntimeError("first line\nno limit today")

    row = {"workers": 1, "uploads_per_s": 10.0, "uploads_per_s_and_core": 5.0, "p50_ms": 1.0, "p99_ms": None}
    service = {"rows": [{**row, "cpu_ms_per_upload": 1.0, "gpu_busy_percent": None}]}
    monkeypatch.setattr(gpu, "describe_gpu", lambda: {"name": "a card"})
    monkeypatch.setattr(gpu, "_bundle", lambda *_: {"engine": {}})
    monkeypatch.setattr(gpu, "_limit", limit)
    monkeypatch.setattr(gpu, "_engines", lambda *_: {"engines": []})
    monkeypatch.setattr(gpu, "_service", lambda *_: service)


def test_a_part_that_fails_is_said_and_the_others_are_kept(parts, tmp_path, capsys):
    output = tmp_path / "gpu.json"
    options = argparse.Namespace(**{**vars(OPTIONS), "output": output})
    assert gpu.run(options) == 0
    result = json.loads(output.read_text())
    assert result["limit"] == {"failed": "no limit today"}
    assert result["service"]["rows"][0]["uploads_per_s"] == 10.0
    assert result["engines"] == {"engines": []}
    assert "no limit today" in capsys.readouterr().err


def test_what_does_not_fit_into_the_time_is_left_out(parts, monkeypatch, capsys):
    now = [0.0]

    def service(*_):
        now[0] += OPTIONS.limit_s
        return {"rows": []}

    monkeypatch.setattr(gpu, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(gpu, "_service", service)
    assert gpu.run(OPTIONS) == 0
    assert json.loads(capsys.readouterr().out)["engines"] == {"failed": "no time was left"}


def test_workers_are_powers_of_two_up_to_the_cores():
    assert gpu._workers(OPTIONS, 16) == [1, 2, 4, 8, 16]
    assert gpu._workers(OPTIONS, 6) == [1, 2, 4]


def test_the_card_is_sampled(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 40\necho 60\nexec sleep 60\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with BusyCard() as card:
        while card._samples.tell() == 0:
            card._samples.seek(0, 2)
    assert card.percent == 50.0
