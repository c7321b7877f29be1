"""What the process of each candidate has at once: importing it takes seconds, and is done once for all."""

from models.optimize import contestant  # noqa: F401
from models.optimize.candidates import openvino

if openvino.installed("openvino", "nncf"):
    openvino.forbid_telemetry()
    import nncf  # noqa: F401
