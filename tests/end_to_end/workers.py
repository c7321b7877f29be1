"""The workers of a server that runs."""

from __future__ import annotations

import contextlib
from pathlib import Path

import psutil


def workers_of(server):
    """Their processes, by number: those that keep figures. A spare process keeps none."""
    numbered = {}
    for process in psutil.Process(server.process.pid).children():
        with contextlib.suppress(psutil.Error):
            members = {file.stem.rpartition("_")[2] for file in figures(process)}
            # Between its fork and its program a process has the files of the supervisor.
            numbered |= {int(member): process for member in members if member.isdigit()}
    return [process for _, process in sorted(numbered.items())]


def figures(process):
    """The files of the figures that a process keeps open."""
    return [Path(file.path) for file in process.open_files() if "/snapserve-" in file.path]
