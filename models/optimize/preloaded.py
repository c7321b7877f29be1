"""What the process of each candidate has at once: importing it takes seconds, and is done once for all.

What cannot be imported is no candidate's loss but that of those that need it.
"""

from contextlib import suppress

from models.engines.conversion import forbid_telemetry
from models.optimize import contestant  # noqa: F401
from models.optimize.candidates.openvino import installed

with suppress(Exception):
    if installed("openvino", "nncf"):
        forbid_telemetry()
        import nncf  # noqa: F401
