"""Requirements of a comparison: installed where possible, and what is missing reported, before it begins."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from benchmark.compare.contestant import Contestant
from benchmark.peers.environment import Environment, PeerMissing

_OPENVINO = ("openvino", "nncf")

Say = Callable[[str], None]


def tell_missing(contestants: Sequence[Contestant], say: Say) -> None:
    """Installs the environments of those that take part, and says what is missing and what that means.

    Raises:
        RuntimeError: without it nothing can be measured.
    """
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk, which makes the load, is not installed; scripts/system-packages.sh installs it")
    for name in dict.fromkeys(each.environment for each in contestants if each.environment):
        if reason := _install(name, say):
            without = ", ".join(each.name for each in contestants if each.environment == name)
            say(f"serve-compare: missing: {reason}; so without {without}")
    absent = [package for package in _OPENVINO if find_spec(package) is None]
    if absent:
        say(f"serve-compare: missing: {', '.join(absent)}; so SnapServe chooses among torch's engines")


def _install(name: str, say: Say) -> str:
    """The reason why the environment cannot be had, or ""."""
    environment = Environment(name)
    if not environment.installed:
        say(f"serve-compare: installing {name} ...")
    try:
        environment.install()
    except PeerMissing as error:
        return str(error)
    return ""
