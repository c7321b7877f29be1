"""The optimiser's record in a bundle."""

from __future__ import annotations

import json

import pytest

from models.bundles.spec import EngineSpec
from models.bundles.table import TABLE_FILE, Table, best_batch_size, images_per_s
from models.errors import BundleError

SPEEDS = [
    {"threads": 1, "streams": 1, "latency_ms": {"1": 9.0}},
    {
        "threads": 2,
        "streams": 1,
        "latency_ms": {"1": 5.0, "8": 30.0, "odd": 1, "16": 0, "0": 1},
        "rounds_ms": {"1": [9.0, 4.0, 5.0], "8": [], "16": ["odd"], "32": 5, "odd": [1.0]},
    },
]
DOCUMENT = {"winner": "a", "candidates": [{"name": "a"}, {"name": "b", "speeds": SPEEDS}]}


def test_a_bundle_without_a_table(tmp_path):
    assert Table.read(tmp_path).document == {}
    assert Table().latency_ms("a", EngineSpec("k", "f", "")) == {}


def test_the_latencies_of_an_engine_are_those_of_its_setting(tmp_path):
    (tmp_path / TABLE_FILE).write_text(json.dumps(DOCUMENT))
    table = Table.read(tmp_path)
    assert table.document == DOCUMENT
    assert table.latency_ms("b", EngineSpec("k", "f", "", threads=2)) == {"1": 5.0, "8": 30.0}
    assert table.latency_ms("b", EngineSpec("k", "f", "", threads=4)) == {}
    assert table.latency_ms("a", EngineSpec("k", "f", "", threads=2)) == {}


def test_the_fastest_round_counts(tmp_path):
    assert Table(DOCUMENT).fastest_ms("b", EngineSpec("k", "f", "", threads=2)) == {"1": 4.0}
    assert Table(DOCUMENT).fastest_ms("b", EngineSpec("k", "f", "", threads=1)) == {}


@pytest.mark.parametrize(
    ("milliseconds", "size"),
    [
        ({}, 32),
        ({"1": 10.0, "8": 40.0, "16": 79.0, "32": 160.0}, 8),  # 100, 200, 203 and 200 images a second
        ({"1": 10.0, "8": 40.0, "16": 75.0}, 16),
        ({"many": 1.0, "0": 1.0, "4": 0.0, "2": 5.0}, 2),
    ],
)
def test_the_best_batch_size_is_the_smallest_that_is_nearly_the_fastest(milliseconds, size):
    assert best_batch_size(milliseconds) == size


@pytest.mark.parametrize(
    "candidates", [None, 5, [5], [{"name": "b", "speeds": 5}], [{"name": "b", "speeds": [5]}]]
)
def test_a_table_that_makes_no_sense_is_only_shown(candidates):
    assert Table({"candidates": candidates}).latency_ms("b", EngineSpec("k", "f", "")) == {}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not valid JSON"),
        (b"\xff", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"ms": NaN}', "not valid JSON"),
        (b"[]", "expected an object"),
        (b'{"a": "' + b"a" * 1_000_000 + b'"}', "longer than 1,000,000 bytes"),
    ],
)
def test_a_damaged_table_is_refused_by_its_name(tmp_path, content, said):
    (tmp_path / TABLE_FILE).write_bytes(content)
    with pytest.raises(BundleError) as refusal:
        Table.read(tmp_path)
    assert str(refusal.value) == f"{tmp_path / TABLE_FILE}: {said}"


def test_the_throughput_is_that_of_the_best_batch_size():
    assert images_per_s({"1": 10.0, "8": 40.0, "16": 90.0, "odd": 1.0}) == 200
    assert images_per_s({}) == 0


def test_the_reason_why_a_candidate_is_out():
    table = Table(
        {"candidates": [{"name": "a", "refusal": "differs"}, {"name": "b", "refusal": ""}, {"name": "c"}]}
    )
    assert [table.refusal(name) for name in "abcd"] == ["differs", "", "", ""]
