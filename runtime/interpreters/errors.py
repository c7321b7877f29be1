"""Why an interpreter gives no value."""


class InterpreterError(RuntimeError):
    """Code in an interpreter raised, the interpreter ended, or what was asked for cannot be.

    Attributes:
        kind: class of the exception that code in the interpreter raised; empty for every other cause.
    """

    def __init__(self, message: str, kind: str = "") -> None:
        super().__init__(message)
        self.kind = kind


class InterpreterEnded(InterpreterError):
    """The process of the interpreter ended during the call, or with the object. The next call starts another."""


class NoSuchAttribute(InterpreterError, AttributeError):
    """The object in the interpreter has no such attribute."""
