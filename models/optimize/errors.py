"""Why an optimisation ended early; each knows the exit code of the command."""

from models.errors import ModelError


class OptimizeError(ModelError):
    """The optimisation did not come to its end. The message is one line.

    Attributes:
        exit_code: of the process: 1 the model, 2 wrong use, 3 weights could not be downloaded, 130 interrupted.
    """

    exit_code = 1


class UsageError(OptimizeError):
    """An option, or a file that it names, is wrong."""

    exit_code = 2


class DownloadError(OptimizeError):
    """The weights could not be downloaded; another source of weights would do."""

    exit_code = 3


class FidelityError(OptimizeError):
    """The optimised model does not answer like the reference."""


class Interrupted(OptimizeError):
    """Ctrl-C ended the search; a bundle was written with what was finished."""

    exit_code = 130  # 128 + SIGINT, as shells have it
