"""A comparison with servers of the tests' own: one that lies, dies or burns is told."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

import psutil
import pytest

from benchmark.__main__ import main
from benchmark.compare import command, match
from benchmark.compare.bundle import Shared
from benchmark.compare.candidates import Candidate
from benchmark.compare.match import Load, Match, rotated
from benchmark.harness.server import PORT
from benchmark.peers.environment import Environment

STAND_IN = str(Path(__file__).parents[1] / "harness" / "stand_in.py")
QUICK = Load(connections=4, seconds=1, warm_up_s=0, tolerance=0.01)


@pytest.fixture(autouse=True)
def needs_wrk(require):
    require("wrk")


@pytest.fixture
def images(tmp_path):
    files = [tmp_path / "first.jpg", tmp_path / "second.jpg"]
    for file in files:
        file.write_bytes(file.stem.encode() * 100)
    return files


def candidate(name, *options):
    return Candidate(name, (STAND_IN, "--port", PORT, *options))


def silent(line):
    pass


def test_every_candidate_begins_once_and_neighbours_change():
    names = ["a", "b", "c", "d"]
    orders = [rotated(names, number) for number in range(len(names))]
    assert {tuple(sorted(order)) for order in orders} == {tuple(names)}
    assert [order[0] for order in orders] == names
    assert {"ab", "ba"} <= {first + second for order in orders for first, second in pairwise(order)}


def test_each_candidate_has_its_turn_in_each_round(images):
    with Match([candidate("one"), candidate("two", "--lie-every", "7")], images, silent) as game:
        game.play(1, QUICK, {"limit": lambda seconds: 100.0 * seconds})
        assert game.limits == {"limit": [100.0]}
        (one,), (two,) = game.turns["one"], game.turns["two"]
    assert one["requests_per_s"] > 20
    assert one["wrong"] == 0 < two["wrong"]
    assert one["cpu_ms_per_request"] > 0
    assert 1 < one["pss_mb"] <= one["peak_rss_mb"] + 1


def test_another_version_of_the_project_runs_in_its_own_folder(images, tmp_path):
    (tmp_path / "server").mkdir()
    with candidate("before").variant("before", f"CHECKOUT={tmp_path}").start(images[0]) as server:
        assert server.tree.processes()[0].cwd() == str(tmp_path)


def test_one_that_cannot_start_is_missing_with_the_reason(images, monkeypatch):
    def refuse(self):
        raise match.PeerMissing("no network")

    monkeypatch.setattr(Environment, "install", refuse)
    peer = Candidate("peer", ("-m", "peer"), environment="fastapi")
    with Match([candidate("dead", "--die"), peer, candidate("alive")], images, silent) as game:
        assert list(game.servers) == ["alive"]
        assert game.missing == [
            {"name": "dead", "reason": "ended with 1: no such model"},
            {"name": "peer", "reason": "no network"},
        ]


def test_one_that_burns_the_processor_is_halted_between_turns(images, monkeypatch):
    monkeypatch.setattr(match, "IDLE_S", 1.0)
    monkeypatch.setattr(match, "_SETTLE_S", 0.5)  # who burns never comes to rest
    with Match([candidate("quiet"), candidate("hot", "--burn")], images, silent) as game:
        assert game.idle_percent["hot"] > 5 > game.idle_percent["quiet"]
        wait_until_stopped(game, "hot")
        assert psutil.STATUS_STOPPED not in states(game, "quiet")
        game.play(1, QUICK)
        wait_until_stopped(game, "hot")
        assert game.turns["hot"][0]["requests"] > 0


def states(game, name):
    return {process.status() for process in game.servers[name].tree.processes()}


def wait_until_stopped(game, name):
    """A signal is delivered when the process is next scheduled; the time limit of tests ends a wait in vain."""
    while states(game, name) != {psutil.STATUS_STOPPED}:
        time.sleep(0.01)


def test_no_process_is_left(images):
    with Match([candidate("one"), candidate("hot", "--burn")], images, silent) as game:
        processes = [process for server in game.servers.values() for process in server.tree.processes()]
        assert len(processes) == 2
    assert not any(process.is_running() for process in processes)


def test_the_command_writes_the_result_and_fails_on_wrong_answers(images, tmp_path, monkeypatch, capsys):
    row = [0.0] * 10
    row[3], row[7] = 0.75, 0.5
    monkeypatch.setattr(command, "reference_scores", lambda bundle, files: [row for _ in files])
    monkeypatch.setattr(
        command,
        "all_candidates",
        lambda *_: [candidate("snapserve"), candidate("liar", "--lie-every", "9")],
    )
    monkeypatch.setattr(command, "shared_engine", lambda *_: Shared("fx-int8-onednn", "int8"))
    words = ["serve-compare", "--model", "models/demo", "--rounds", "1", "--seconds", "1", "--warm-up", "0"]
    words += ["--connections", "4", "--contestants", "snapserve,liar", "--output", str(tmp_path / "result.json")]
    words += [word for image in images for word in ("--image", str(image))]
    assert main([*words, "--plot", str(tmp_path / "plot.svg")]) == 1
    result = json.loads((tmp_path / "result.json").read_text())
    ours, liar = result["contestants"]
    assert ours["wrong"] == 0 < liar["wrong"]
    assert result["ratios"]["snapserve"]["liar"]["requests_per_s"]["median"] > 0
    assert ours["reference"] == {"top1_agreement": 0.5, "max_abs_diff": 0.0}
    assert result["machine"]["cpu"]
    assert "WRONG: liar" in capsys.readouterr().out
    assert (tmp_path / "plot.svg").read_text().startswith("<?xml")
    assert sys.prefix not in ours["command"]
