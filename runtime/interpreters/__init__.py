"""What torch::deploy does, on child processes: several interpreters, packages, objects that move between them."""

from runtime.interpreters.errors import InterpreterEnded, InterpreterError, NoSuchAttribute
from runtime.interpreters.manager import InterpreterManager
from runtime.interpreters.package import Package
from runtime.interpreters.replicated import ReplicatedObject
from runtime.interpreters.session import RemoteObject, Session

__all__ = [
    "InterpreterEnded",
    "InterpreterError",
    "InterpreterManager",
    "NoSuchAttribute",
    "Package",
    "RemoteObject",
    "ReplicatedObject",
    "Session",
]
