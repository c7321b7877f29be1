"""What can be wrong with a model or a picture. No HTTP here: `server/errors.py` maps these to statuses."""


class ModelError(Exception):
    """A model that cannot be served. The message is one line and names the file."""


class BundleError(ModelError):
    """A bundle that is damaged, incomplete or contradicts itself."""


class EngineError(ModelError):
    """A model whose graph cannot be loaded or run on this machine."""


class PictureError(Exception):
    """A picture that cannot be prepared. It concerns this one picture and nobody else's."""


class UnsupportedFormat(PictureError):
    """The bytes are not JPEG, PNG or WebP.

    Attributes:
        seen: what the bytes look like ("GIF", "PDF", ...), or None when they look like nothing known.
    """

    def __init__(self, seen: str | None) -> None:
        super().__init__(f"unsupported picture format: {seen or 'unknown'}")
        self.seen = seen


class TooManyPixels(PictureError):
    """The header announces more pixels than are allowed; nothing was decoded.

    Attributes:
        limit: pixels allowed.
        actual: pixels announced, width times height.
    """

    def __init__(self, limit: int, actual: int) -> None:
        super().__init__(f"{actual} pixels, at most {limit} are allowed")
        self.limit = limit
        self.actual = actual


class UndecodablePicture(PictureError):
    """The bytes begin like a picture and cannot be decoded (cut short, damaged, not what they seem)."""
