"""Which candidates are in memory at the same time."""

from __future__ import annotations

import dataclasses
import io
from contextlib import contextmanager

import pytest
from rich.console import Console

from models.optimize import optimizer
from models.optimize.candidates import eager
from models.optimize.groups import at_once, groups
from models.optimize.report import Report
from models.optimize.search import Search
from tests.models.optimize.runs import EFFORT, FP32, optimize, table_of
from tests.models.small import random_weights

GIGABYTE = 1_000_000_000
RESNET18 = 47_000_000


@pytest.mark.parametrize(
    ("weights", "memory", "expected"),
    [
        (RESNET18, 1 * GIGABYTE, 1),
        (RESNET18, 8 * GIGABYTE, 3),
        (RESNET18, 16 * GIGABYTE, 7),
        (350_000_000, 16 * GIGABYTE, 2),
        (RESNET18, None, None),
    ],
)
def test_as_many_as_fit(weights, memory, expected):
    assert at_once(weights, memory) == expected


@pytest.mark.parametrize(
    ("most", "expected"),
    [(None, ["abcdefg"]), (7, ["abcdefg"]), (50, ["abcdefg"]), (6, ["abc", "defg"]), (3, ["ab", "cd", "efg"])],
)
def test_groups_are_about_equal_and_none_is_too_large(most, expected):
    assert groups("abcdefg", most) == expected


def test_every_candidate_is_its_own_group_if_need_be():
    assert groups("abc", 1) == ["a", "b", "c"]


@pytest.mark.parametrize(("most", "memory"), [(1, None), (0, 2 * GIGABYTE)])
def test_candidates_that_do_not_fit_together_take_turns(tmp_path, monkeypatch, most, memory):
    alive, counts, made = set(), [], Search._contestant

    @contextmanager
    def counted(self, candidate):
        alive.add(candidate.name)
        counts.append(len(alive))
        with made(self, candidate) as contestant:
            yield contestant
        alive.discard(candidate.name)

    monkeypatch.setattr(Search, "_contestant", counted)
    monkeypatch.setattr(optimizer, "usable_memory", lambda: memory)
    console = Console(file=io.StringIO(), width=200)
    effort = dataclasses.replace(EFFORT, at_once=most)
    bundle = optimize(
        random_weights(tmp_path), tmp_path / "bundle", eager.FP32, FP32, report=Report(console), effort=effort
    )
    assert counts == [1, 1]
    assert "at most 1 of 2 candidates at a time" in console.file.getvalue()
    assert [bool(row["speeds"]) for row in table_of(tmp_path / "bundle").values()] == [True, True]
    assert set(bundle.spec.engines) >= {"eager-fp32", "torchscript-fp32"}
