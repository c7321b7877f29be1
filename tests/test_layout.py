"""Imports point one way: each folder imports those below it, and nothing imports examples or benchmark."""

from __future__ import annotations

import pytest

from tests.modules import ROOT, imports

BELOW = {
    "snapserve": set(),
    "batching": {"snapserve"},
    "models": {"snapserve"},
    "runtime": {"batching", "models", "snapserve"},
    "server": {"batching", "models", "runtime", "snapserve"},
    "examples": {"batching", "models", "runtime", "server", "snapserve"},
    "benchmark": {"batching", "examples", "models", "runtime", "server", "snapserve"},
}


@pytest.mark.parametrize("folder", BELOW)
def test_a_folder_imports_only_those_below_it(folder):
    allowed = BELOW[folder] | {folder}
    for file in (ROOT / folder).rglob("*.py"):
        ours = {name.split(".")[0] for name in imports(file)} & (BELOW.keys() | {"tests"})
        assert ours <= allowed, f"{file.relative_to(ROOT)} imports {ours - allowed}"
