"""The limits of a container or service."""

from __future__ import annotations

import os

import pytest

import models.machine.cgroup
from models.machine.cgroup import cpu_limit, memory_limit
from models.machine.resources import usable_cores, usable_memory


@pytest.fixture
def groups(tmp_path, monkeypatch):
    """A function that writes files of a control group tree, of which we are in a/b."""
    (tmp_path / "own").write_text("1:name=systemd:/x\n0::/a/b\n")
    monkeypatch.setattr(models.machine.cgroup, "ROOT", tmp_path / "groups")
    monkeypatch.setattr(models.machine.cgroup, "OWN", tmp_path / "own")

    def write(**files):
        for name, text in files.items():
            file = tmp_path / "groups" / name.replace("__", "/").replace("_DOT_", ".")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text + "\n")

    return write


def test_nothing_limits(groups):
    assert (cpu_limit(), memory_limit()) == (None, None)
    groups(a__cpu_DOT_max="max 100000", a__memory_DOT_max="max")
    assert (cpu_limit(), memory_limit()) == (None, None)


def test_the_tightest_group_around_us_counts(groups):
    groups(cpu_DOT_max="800000 100000", a__cpu_DOT_max="150000 100000", a__b__cpu_DOT_max="max 100000")
    groups(a__memory_DOT_max="4000000000", a__b__memory_DOT_max="3000000000", other__memory_DOT_max="1")
    assert (cpu_limit(), memory_limit()) == (1.5, 3_000_000_000)


def test_in_a_container_the_root_is_ours(groups):
    groups(cpu_DOT_max="200000 100000", memory_DOT_max="1000000000")
    assert (cpu_limit(), memory_limit()) == (2.0, 1_000_000_000)


def test_version_1(groups):
    groups(cpu__cpu_DOT_cfs_quota_us="50000", cpu__cpu_DOT_cfs_period_us="100000")
    groups(memory__memory_DOT_limit_in_bytes="9223372036854771712")
    assert (cpu_limit(), memory_limit()) == (0.5, None)
    groups(cpu__cpu_DOT_cfs_quota_us="-1", memory__memory_DOT_limit_in_bytes="5")
    assert (cpu_limit(), memory_limit()) == (None, 5)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux")
@pytest.mark.parametrize(
    ("quota", "cores"), [("100000", 1), ("150000", 2), ("50000", 1), ("300000", 3), ("900000", 4)]
)
def test_a_part_of_a_core_is_a_core_and_there_are_no_more_than_there_are(groups, monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    groups(cpu_DOT_max=f"{quota} 100000")
    assert usable_cores() == cores


def test_memory_is_what_is_installed_or_allowed(groups):
    installed = usable_memory()
    assert installed is not None
    groups(memory_DOT_max=str(installed // 2))
    assert usable_memory() == installed // 2
