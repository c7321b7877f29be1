"""What the log's lines look like."""

from __future__ import annotations

import logging


def set_up_logs(level: str, process: str = "") -> None:
    """Lines of at least that level go to the standard error, with the process where there are several."""
    name = " ".join(filter(None, ("%(levelname)s", process, "%(name)s")))
    logging.basicConfig(level=level.upper(), format=f"%(asctime)s {name}: %(message)s")
