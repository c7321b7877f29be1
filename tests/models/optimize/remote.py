"""What `isolated` makes in the tests of it; its module imports no torch, which each process would do anew."""

from __future__ import annotations

import os
import signal

from models.errors import EngineError


class Remote:
    """Lives elsewhere."""

    def pid(self):
        return os.getpid()

    def fail(self):
        raise EngineError("no such instruction")

    def print(self):
        print("noise")
        os.system("echo noise")

    def die(self):
        os.kill(os.getpid(), signal.SIGKILL)
