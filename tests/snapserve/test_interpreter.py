"""Further processes of a command import the same packages as the command."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from snapserve.interpreter import module_command

ROOT = Path(__file__).parents[2]
CODE = """
import subprocess, sys
from snapserve.interpreter import module_command
sys.exit(subprocess.run(module_command("snapserve.pid_file")).returncode)
"""


def test_a_command_that_does_not_search_the_working_directory_has_processes_that_do_not(tmp_path):
    (tmp_path / "snapserve").mkdir()
    (tmp_path / "snapserve/__init__.py").write_text("raise SystemExit(1)")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-P", "-c", CODE], cwd=tmp_path, env=environment, check=True)


def test_a_working_directory_that_was_removed_is_not_searched(tmp_path, monkeypatch):
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert module_command("m", "word") == [sys.executable, "-P", "-m", "m", "word"]
