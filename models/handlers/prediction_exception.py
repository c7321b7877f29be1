"""How a handler refuses a request."""

from __future__ import annotations


class PredictionException(Exception):
    """Raised by a handler: the client gets the message and the status.

    Attributes:
        message: for the client.
        error_code: HTTP status.
    """

    def __init__(self, message: str, error_code: int = 500) -> None:
        super().__init__(message)
        self.message = message
        self.error_code = error_code

    def __str__(self) -> str:
        return f"message : {self.message} error_code : {self.error_code}"
