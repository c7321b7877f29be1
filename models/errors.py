"""What can be wrong with a model or an image. No HTTP here: `server/http/faults.py` maps these to statuses."""

from collections.abc import Sequence


class ModelError(Exception):
    """A model that cannot be served. The message is one line and names the file."""


class BundleError(ModelError):
    """A bundle that is damaged, incomplete or contradicts itself."""


class EngineError(ModelError):
    """A model whose graph cannot be loaded or run on this machine."""


class CodeRefused(ModelError):
    """A model that is a program in Python, where none may run."""


class ArchiveError(ModelError):
    """A model archive that is damaged, hostile, or contradicts itself."""


class NoManifest(ArchiveError):
    """A file or folder that is no model archive, or whose manifest names no model."""


class RequirementsRefused(ModelError):
    """A model archive that asks for packages, where none may be installed, or whose packages cannot be."""


class ImageError(Exception):
    """An image that cannot be prepared. It concerns this image alone."""


class UnsupportedFormat(ImageError):
    """The bytes are of none of the formats that are accepted.

    Attributes:
        seen: what the bytes look like ("GIF", "PDF", ...), or None for an unknown format.
        accepted: the formats.
    """

    def __init__(self, seen: str | None, accepted: Sequence[str] = ("JPEG", "PNG", "WEBP")) -> None:
        super().__init__(f"unsupported image format: {seen or 'unknown'}")
        self.seen = seen
        self.accepted = accepted


class UnsupportedImage(ImageError):
    """The format is accepted, but this kind of it cannot be decoded; it need not be damaged.

    Attributes:
        kind: what is not supported, as a subject: "JPEG with 12 bits per sample".
        advice: what to do, as a clause, or None: "convert it to 8 bits".
    """

    def __init__(self, kind: str, advice: str | None = None) -> None:
        super().__init__(f"{kind} is not supported")
        self.kind = kind
        self.advice = advice


class TooManyPixels(ImageError):
    """The header announces more pixels than are allowed; nothing was decoded.

    Attributes:
        limit: pixels allowed.
        actual: pixels announced, width times height.
    """

    def __init__(self, limit: int, actual: int) -> None:
        super().__init__(f"{actual} pixels, at most {limit} are allowed")
        self.limit = limit
        self.actual = actual


class TooCostly(ImageError):
    """Decoding it would take too long, by its header; nothing was decoded.

    Attributes:
        limit: milliseconds of one thread that are allowed.
        actual: milliseconds that it was estimated to take on this machine.
    """

    def __init__(self, limit: float, actual: float) -> None:
        super().__init__(f"about {actual:.0f} ms to decode, at most {limit:.0f} are allowed")
        self.limit = limit
        self.actual = actual


class TooMuchMemory(ImageError):
    """Decoding it would take more memory than all images together may, by its header; nothing was decoded.

    Attributes:
        limit: bytes for all images together.
        actual: bytes that it was estimated to take.
    """

    def __init__(self, limit: int, actual: int) -> None:
        super().__init__(f"about {actual} bytes to decode, {limit} are there for all images")
        self.limit = limit
        self.actual = actual


class StrippedImage(ImageError):
    """An image without its NUL, CR and LF bytes: `curl -d @FILE` removes them."""


class UndecodableImage(ImageError):
    """The bytes begin like an image and cannot be decoded (cut short, damaged, not what they seem)."""
