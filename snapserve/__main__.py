"""`python -m snapserve models …`, where no server is installed."""

from __future__ import annotations

import sys

from snapserve.models_command import main

if __name__ == "__main__":
    if sys.argv[1:2] != ["models"]:
        sys.exit("python -m snapserve models COMMAND; python -m server starts a server")
    sys.exit(main(sys.argv[2:]))
