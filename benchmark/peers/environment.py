"""The peers' virtual environments: own packages, and behind them the project's. `python -m benchmark peers`."""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

from benchmark.harness.results import print_table
from benchmark.harness.server import ROOT

REQUIREMENTS = Path(__file__).with_name("requirements.toml")
_STAMP = ".installed"
_EXTRA = ("torchserve",)  # needs Java as well; installed only where it is named
_INSTALL_S = 600


class PeerMissing(Exception):
    """A peer that cannot be run here. The message is the reason, in one line."""


class Environment:
    """Made from a table of `requirements.toml` under `.cache/peers/NAME`; torch is there once, as the project's.

    Attributes:
        name: of the table.
        folder: of the environment.
        python: the environment's interpreter.
    """

    def __init__(self, name: str, requirements: Path = REQUIREMENTS, cache: Path | None = None) -> None:
        self.name = name
        self.folder = (cache or ROOT / ".cache" / "peers") / name
        self.python = self.folder / "bin" / "python"
        self._requirements = requirements

    @property
    def installed(self) -> bool:
        """Whether it was made by this interpreter from the requirements as they are now."""
        stamp = self.folder / _STAMP
        return stamp.is_file() and stamp.read_text(encoding="utf-8") == self._key()

    def install(self) -> None:
        """Makes it, unless it is there.

        Raises:
            PeerMissing: a package cannot be had; what was there before is unusable then.
        """
        if self.installed:
            return
        (self.folder / _STAMP).unlink(missing_ok=True)
        self._run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(self.folder)])
        self._share_project_packages()
        if packages := [f"{name}=={version}" for name, version in self.versions().items()]:
            words = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
            self._run([*words, "install", "--quiet", "--no-input", *packages])
        (self.folder / _STAMP).write_text(self._key(), encoding="utf-8")

    def versions(self) -> dict[str, str]:
        """The pinned packages and their versions."""
        pinned: dict[str, dict[str, str]] = tomllib.loads(self._requirements.read_text(encoding="utf-8"))
        return pinned[self.name]

    def _key(self) -> str:
        text = f"{self.versions()} {sys.version} {self._project_packages()}"
        return hashlib.sha256(text.encode()).hexdigest()

    def _share_project_packages(self) -> None:
        # A path in a .pth file comes after the environment's own site-packages.
        site = Path(sysconfig.get_path("purelib", vars={"base": str(self.folder)}))
        (site / "project.pth").write_text(self._project_packages() + "\n", encoding="utf-8")

    @staticmethod
    def _project_packages() -> str:
        return sysconfig.get_path("purelib")

    def _run(self, words: list[str]) -> None:
        try:
            done = subprocess.run(words, capture_output=True, text=True, timeout=_INSTALL_S, check=False)
        except subprocess.TimeoutExpired:
            raise PeerMissing(f"installing {self.name} took more than {_INSTALL_S} s") from None
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR: ")]
            reason = errors[-1].removeprefix("ERROR: ") if errors else f"pip ended with {done.returncode}"
            raise PeerMissing(f"{self.name} cannot be installed (is there a network?): {reason}")


def peers() -> tuple[str, ...]:
    """The names of all environments."""
    return tuple(tomllib.loads(REQUIREMENTS.read_text(encoding="utf-8")))


def usual_peers() -> tuple[str, ...]:
    """Those that are installed where none is named."""
    return tuple(name for name in peers() if name not in _EXTRA)


def add_command(commands: Any) -> None:
    """Adds `peers` to the command line."""
    parser = commands.add_parser("peers", help="Installs the peers' environments and lists them")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(peers())}; default: {', '.join(usual_peers())}"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Installs what is not there. 1 if a peer cannot be had, 2 if there is none of that name."""
    unknown = sorted(set(options.names) - set(peers()))
    if unknown:
        print(f"peers: there is no {unknown[0]!r}; there are {', '.join(peers())}")
        return 2
    rows, missing = [], 0
    for name in options.names or usual_peers():
        environment = Environment(name)
        try:
            environment.install()
            said = " ".join(f"{each}=={version}" for each, version in environment.versions().items())
        except PeerMissing as error:
            missing += 1
            said = f"missing: {error}"
        rows.append({"peer": name, "packages": said})
    print_table("the peers' environments", rows)
    return 1 if missing else 0
