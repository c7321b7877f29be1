"""Processes and their CPU time."""

from __future__ import annotations

from benchmark.harness.server import spent_between


def test_cpu_of_processes_that_come_and_go():
    assert spent_between({1: 2.0, 2: 5.0}, {1: 3.5, 3: 0.5}) == 2.0
