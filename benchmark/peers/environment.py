"""A peer's virtual environment: its own packages, and behind them the project's, so that torch is there once."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import sysconfig
from pathlib import Path

from benchmark.server_process import ROOT

_HERE = Path(__file__).parent
_STAMP = ".installed"
_INSTALL_S = 600


class PeerMissing(Exception):
    """A peer that cannot be run here. The message is the reason, in one line."""


class Environment:
    """Made from `requirements/NAME.txt` under `.cache/peers/NAME`.

    Attributes:
        name: of the requirements file, without its suffix.
        folder: of the environment.
        python: the environment's interpreter.
    """

    def __init__(self, name: str, requirements: Path | None = None, cache: Path | None = None) -> None:
        self.name = name
        self.folder = (cache or ROOT / ".cache" / "peers") / name
        self.python = self.folder / "bin" / "python"
        self._requirements = requirements or _HERE / "requirements" / f"{name}.txt"

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
        words = [sys.executable, "-m", "pip", "--python", str(self.python), "--disable-pip-version-check"]
        self._run([*words, "install", "--quiet", "--no-input", "-r", str(self._requirements)])
        (self.folder / _STAMP).write_text(self._key(), encoding="utf-8")

    def versions(self) -> dict[str, str]:
        """The pinned packages and their versions."""
        lines = self._requirements.read_text(encoding="utf-8").splitlines()
        return dict(line.split("==") for line in lines if "==" in line)

    def _key(self) -> str:
        text = self._requirements.read_bytes() + sys.version.encode() + self._project_packages().encode()
        return hashlib.sha256(text).hexdigest()

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
