"""What the comparison says before it begins."""

from __future__ import annotations

import pytest

from benchmark.__main__ import main
from benchmark.compare import command
from benchmark.compare.candidates import Candidate
from benchmark.compare.command import tell_missing
from benchmark.peers.environment import PeerMissing


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
