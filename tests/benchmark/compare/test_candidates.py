"""Candidates: how they are started, and variants of them."""

from __future__ import annotations

import dataclasses
import os

import pytest

from benchmark.compare.candidates import Candidate, chosen
from benchmark.harness.server import PORT, ROOT


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


def test_an_extra_candidate_takes_part_only_where_it_is_named():
    usual, extra = Candidate("a", ("-m", "server")), Candidate("b", ("-m", "server"), is_extra=True)
    assert chosen([usual, extra], [], []) == [usual]
    assert chosen([usual, extra], ["b"], []) == [extra]
