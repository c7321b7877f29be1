"""`python -m snapserve models …`, where no server is installed, and `python -m snapserve torchserve …`."""

from __future__ import annotations

import sys

from snapserve import models_command, torchserve_command

_COMMANDS = {"models": models_command.main, "torchserve": torchserve_command.main}

if __name__ == "__main__":
    command = _COMMANDS.get(sys.argv[1]) if len(sys.argv) > 1 else None
    if command is None:
        sys.exit("python -m snapserve models COMMAND, or torchserve; python -m server starts a server")
    sys.exit(command(sys.argv[2:]))
