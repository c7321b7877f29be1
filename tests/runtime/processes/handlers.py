"""Handlers that tests load in a child: what an item says is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np


class Obedient:
    """`infer` obeys each item: "pid", "modules", a list [word, argument], or an array, which is doubled."""

    def __init__(self, flag=None):
        if flag is not None and not Path(flag).exists():
            raise ValueError("secret: the flag is gone")
        print("a line of noise", flush=True)

    def infer(self, batch):
        return [self.obey(item) for item in batch]

    def obey(self, item):
        if isinstance(item, np.ndarray):
            return item * 2
        if isinstance(item, bytes):
            return item[::-1]
        word, *arguments = item if isinstance(item, list) else [item]
        return getattr(self, word)(*arguments)

    def pid(self):
        return os.getpid()

    def nap(self):
        time.sleep(0.2)
        return os.getpid()

    def echo(self, value):
        return value

    def modules(self):
        return sorted({name.partition(".")[0] for name in sys.modules})

    def crash(self, *_):
        os.kill(os.getpid(), signal.SIGSEGV)

    def leave(self):
        os._exit(7)

    def end(self):
        sys.exit(3)

    def hang(self, *_):
        while True:
            time.sleep(60)

    def fail(self, *_):
        raise RuntimeError("poison")

    def allocate(self, megabytes):
        return len(bytes(megabytes << 20))

    def device_lost(self):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    def start_another(self):
        return subprocess.Popen(["sleep", "600"]).pid


def no_such_engine():
    """A factory that fails as a model does."""
    from models.errors import EngineError

    raise EngineError("x.pt: damaged")


def crashing():
    """A factory that does not survive."""
    os.kill(os.getpid(), signal.SIGSEGV)
