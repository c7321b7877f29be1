"""Where a process spends its time, by py-spy, which looks at it from outside."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SAMPLES_PER_S = 250
_STACK = re.compile(r"(.*) (\d+)")
_FRAME = re.compile(r"(.+) \((.+?)(?::\d+)?\)")


@dataclass(frozen=True)
class Profile:
    """Samples of the thread that holds the interpreter's lock.

    Attributes:
        samples: all of them.
        self_samples: by function: it was running itself, or C code that it had called.
        whole_samples: by function: it or what it had called was running.
    """

    samples: int
    self_samples: Counter[str]
    whole_samples: Counter[str]

    @classmethod
    def read(cls, lines: Iterable[str]) -> Profile:
        """From py-spy's raw format: "outer (file:line);inner (file:line) count"."""
        samples, own, whole = 0, Counter[str](), Counter[str]()
        for line in lines:
            stack = _STACK.fullmatch(line)
            if stack is None:
                continue
            count = int(stack[2])
            names = [_name(frame) for frame in stack[1].split(";")]
            samples += count
            own[names[-1]] += count
            for name in set(names):
                whole[name] += count
        return cls(samples, own, whole)


def _name(frame: str) -> str:
    """ "function (folder/file.py)", with the last two parts of the path; lines are put together."""
    match = _FRAME.fullmatch(frame)
    return f"{match[1]} ({'/'.join(Path(match[2]).parts[-2:])})" if match else frame


def profile(process_id: int, seconds: float) -> Profile:
    """Watches a process for some seconds.

    Raises:
        RuntimeError: py-spy is not installed, or may not look at that process.
    """
    program = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if program is None:
        raise RuntimeError("py-spy is not installed; pip install -e .[bench] installs it")
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw"
        words = [program, "record", "--pid", str(process_id), "--duration", f"{max(1, round(seconds))}"]
        words += ["--rate", str(_SAMPLES_PER_S), "--format", "raw", "--output", str(raw)]
        words += ["--gil"]  # a thread that waits for the interpreter's lock looks busy, too
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode or not raw.exists():
            raise RuntimeError(f"py-spy failed: {done.stderr.strip().splitlines()[-1:]}")
        return Profile.read(raw.read_text(encoding="utf-8").splitlines())
