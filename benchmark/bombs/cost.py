"""The cost of one image, measured in a process of its own that takes orders on its standard input."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
import time
from pathlib import Path

from benchmark.bombs.files import BOMBS
from benchmark.harness.results import Row
from benchmark.harness.server import Helper
from models.bundles.spec import IMAGENET
from models.errors import ImageError
from models.images.budget import DecodeBudget
from models.images.cost import Cost
from models.images.decode import Job, decode
from models.images.formats import IMAGES
from models.images.preprocess import Preprocessor
from models.images.speed import relative_speed
from models.images.stop import Stop
from models.machine.process import prepare_process

_STATUS = Path("/proc/self/status")
_LOOK_S = 0.001


def file_of(name: str, folder: Path) -> Path:
    """The file of a bomb, made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    if not file.exists():
        draft = file.with_suffix(".draft")
        draft.write_bytes(BOMBS[name]())
        draft.replace(file)
    return file


def measure(name: str, file: Path) -> Row:
    """One row of the table: estimated and measured, in a process that has decoded nothing big before."""
    with Helper("benchmark.bombs.cost") as helper:
        helper.send(f"{name} {file}\n".encode())
        row: Row = json.loads(helper.line())
    return row


def estimate(data: bytes) -> Cost | ImageError:
    """The cost that the server estimates for an image, or the error that refuses it before that."""
    found: list[Cost] = []

    def note(cost: Cost) -> None:
        found.append(cost)
        raise ImageError

    prepare = Preprocessor(IMAGENET)
    try:
        decode(data, Job(prepare.max_pixels, prepare.region, note, Stop()), IMAGES)
    except ImageError as error:
        return found[0] if found else error
    raise AssertionError


def main() -> None:
    """Decodes one image, and prints what that cost."""
    name, place = sys.stdin.readline().split()
    prepare_process()
    import torch

    torch.set_num_threads(1)
    data = Path(place).read_bytes()
    prepare = Preprocessor(IMAGENET, formats=IMAGES, budget=DecodeBudget())
    with contextlib.suppress(ImageError):
        prepare(BOMBS["jpeg-segments"]())  # loads what is loaded with the first image
    expected, before = estimate(data), _megabytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    with _Pulse() as pulse:
        began, cpu = time.perf_counter(), time.thread_time()
        try:
            prepare(data)
            outcome = "decoded"
        except ImageError as error:
            outcome = type(error).__name__
        cpu_ms, wall_ms = (time.thread_time() - cpu) * 1000, (time.perf_counter() - began) * 1000
    row = {"image": name, "bytes": len(data), "outcome": outcome}
    if isinstance(expected, Cost):
        row |= {"megapixels": expected.pixels / 1e6, "estimated_ms": expected.seconds * relative_speed() * 1000}
        row |= {"estimated_mb": expected.memory / 1e6}
    else:
        row |= {"megapixels": None, "estimated_ms": None, "estimated_mb": None}
    row |= {"cpu_ms": cpu_ms, "wall_ms": wall_ms, "peak_mb": _megabytes("VmHWM") - before}
    row |= {"left_mb": _megabytes("VmRSS") - before, "longest_hold_ms": pulse.longest_s * 1000}
    print(json.dumps(row), flush=True)


def _megabytes(field: str) -> float:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1]) * 1024 / 1e6


class _Pulse:
    """The longest that the interpreter was held from another thread, beside how long the cores were."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat)

    def _beat(self) -> None:
        before = time.perf_counter()
        while not self._ended.is_set():
            time.sleep(_LOOK_S)
            now = time.perf_counter()
            self.longest_s, before = max(self.longest_s, now - before - _LOOK_S), now

    def __enter__(self) -> _Pulse:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


if __name__ == "__main__":
    main()
