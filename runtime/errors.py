"""Why a model gives no output. No HTTP: `server/http/faults.py` maps these to statuses."""


class RuntimeFault(Exception):
    """A model that cannot take an input now. The message may be shown to a client."""


class UnknownModel(RuntimeFault):
    """No model of that name is known."""


class ModelLoading(RuntimeFault):
    """The model is known and not loaded yet.

    Attributes:
        retry_after_s: seconds until it will probably be loaded.
    """

    def __init__(self, message: str, retry_after_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class EngineStuck(RuntimeFault):
    """The engine does not come back from a batch.

    Attributes:
        retry_after_s: seconds until another one will probably serve.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("the engine does not come back from a batch")
        self.retry_after_s = retry_after_s


class ModelUnloaded(RuntimeFault):
    """The model was unloaded before it took the input."""


class Overloaded(RuntimeFault):
    """The input could not be answered in time.

    Attributes:
        retry_after_s: whole seconds after which there will be room.
    """

    def __init__(self, retry_after_s: int) -> None:
        super().__init__("The model is overloaded.")
        self.retry_after_s = retry_after_s


class EngineOutputError(Exception):
    """The engine's output is no probability: a value is not finite."""
