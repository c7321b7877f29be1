"""Why a model gives no output. No HTTP: `server/http/faults.py` maps these to statuses."""


class RuntimeFault(Exception):
    """A model that cannot take an input now. The message may be shown to a client."""


class UnknownModel(RuntimeFault):
    """No model of that name is known."""


class VersionTaken(RuntimeFault):
    """A version of that number is there."""


class LastModel(RuntimeFault):
    """It cannot be removed: it is all that there is."""


class NoRoom(RuntimeFault):
    """There is no memory for the model.

    Attributes:
        needed: bytes that it takes.
        left: bytes that could be had.
    """

    def __init__(self, name: str, needed: int, left: int) -> None:
        megabytes = f"it takes {needed / 1e6:,.0f} MB, {max(0, left) / 1e6:,.0f} can be had"
        super().__init__(f"There is no memory for {name}: {megabytes}.")
        self.needed = needed
        self.left = left


class NotScalable(RuntimeFault):
    """The engine cannot have processes of its own: it runs on a thread."""


class NoWorkers(RuntimeFault):
    """The model is known, and has no process that would run it: it was scaled to none.

    Attributes:
        name: of the model.
        version: of it.
    """

    def __init__(self, name: str, version: str) -> None:
        super().__init__(f"{name} has no worker; scale it to at least one.")
        self.name = name
        self.version = version


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


class InvalidInput(RuntimeFault):
    """The model does not take inputs of this kind."""


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


class ModelRaised(Exception):
    """The model raised on the item.

    The message is one line of the model's or of its library's, without stack frames; a client may see it.
    """


class UnsupportedOutput(ModelRaised):
    """The model returned what cannot be sent.

    Attributes:
        what: cannot be: "dtype" of a tensor, "keys" of a dict, or "type".
    """

    def __init__(self, what: str, message: str) -> None:
        super().__init__(what, message)
        self.what = what

    def __str__(self) -> str:
        return str(self.args[1])


class HandlerFailed(ModelRaised):
    """The handler of a model archive gave no answer to the item.

    The message is a fixed one that tells nothing of the handler, but where it has refused the item.

    Attributes:
        why: "raised": it raised; "resources": it raised for lack of memory; "refused": it raised a
            PredictionException, whose words the message has; "no-list", "length" or "type": of what it returned.
        code: HTTP status that a PredictionException names; else 0.
    """

    def __init__(self, why: str, code: int = 0, message: str = "") -> None:
        super().__init__(why, code, message)
        self.why = why
        self.code = code

    def __str__(self) -> str:
        return str(self.args[2]) or _HANDLER_FAILED[self.why]


_HANDLER_FAILED = {
    "raised": "Prediction failed",
    "resources": "Out of resources",
    "refused": "",
    "no-list": "Invalid model predict output",
    "length": "number of batch response mismatched",
    "type": "Unsupported model output data type.",
}


class ResponseBegun(Exception):
    """A part of the response was sent, so the item cannot be run again."""


class EngineFault(Exception):
    """The item that ran alone ended the process of the engine. The message is for the log."""


class EngineDied(EngineFault):
    """The process ended while it ran the item."""


class EngineTimeout(EngineFault):
    """The process was killed: it ran the item for longer than the time limit."""


class EngineRaised(Exception):
    """The engine raised in its process, and no `ModelRaised`: its class and text there."""


class EngineUnavailable(RuntimeFault):
    """No process of the engine runs, and the next one is not started at once.

    Attributes:
        retry_after_s: seconds until it is.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__("no process of the engine runs")
        self.retry_after_s = retry_after_s


class VersionInUse(RuntimeFault):
    """The version cannot be removed, or shadow another: it is the default one."""


class TooManyModels(RuntimeFault):
    """No further model can be added while the server runs."""


class ModelRefused(RuntimeFault):
    """The model does not load, or fails its golden set. The message is the reason."""


class ChangeFailed(RuntimeFault):
    """A change of the models was undone for a reason that is not the model's: it may be tried again."""


class TooManyChanges(RuntimeFault):
    """Other changes of the models wait already."""
