"""Why a model gives no output. No HTTP: `server/http/faults.py` maps these to statuses."""


class RuntimeFault(Exception):
    """A model that cannot take an input now. The message may be shown to a client."""


class UnknownModel(RuntimeFault):
    """No model of that name is known."""


class ModelLoading(RuntimeFault):
    """The model is known and not loaded yet."""


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
