"""Encoded image -> pixels, as they are stored: neither turned upright nor resized.

What a file holds beside its pixels stays out of Pillow's hands: jpeg_file.py, png.py and webp.py read the
orientation, and pass on what counts for the pixels. So no text, profile, EXIF or second image decides whether an
image is taken, is unpacked, or makes a library print what a client has written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from PIL import Image

from models.errors import (
    ImageError,
    StrippedImage,
    TooManyPixels,
    UndecodableImage,
    UnsupportedFormat,
    UnsupportedImage,
)
from models.images import cost
from models.images.colour import pixels_of
from models.images.cost import Cost
from models.images.exif import Metadata
from models.images.formats import SUPPORTED, is_stripped, sniff
from models.images.geometry import TURNS, Pixels, Region, Turn
from models.images.heif import open_avif, open_heic
from models.images.jpeg import decode_jpeg
from models.images.jpeg_file import MAX_SCANS, JpegFile, read_jpeg
from models.images.jpeg_support import can_decode
from models.images.png import decode_png, read_png
from models.images.stop import Stop, StoppableFile
from models.images.webp import WebpFile, read_webp
from models.images.webp_library import decode_region, library

Encoded = bytes | bytearray | memoryview
# (width, height, turn, whether it can be decoded at a part of its size) -> what is needed of a stored image.
ChooseRegion = Callable[[int, int, Turn, bool], Region]


class Job(NamedTuple):
    """How an image is decoded.

    Attributes:
        max_pixels: the most that an image may have, width times height.
        choose: names the region that is needed.
        admit: gets the estimated cost before the decoding; raises ImageError where that is too much.
        stop: is looked at while it is decoded.
    """

    max_pixels: int
    choose: ChooseRegion
    admit: Callable[[Cost], None]
    stop: Stop

    def region(self, size: tuple[int, int], turn: Turn, is_scalable: bool = False) -> Region:
        """What is needed of an image of that size. Raises TooManyPixels, before anything is computed of it."""
        width, height = size
        if width * height > self.max_pixels:
            raise TooManyPixels(self.max_pixels, width * height)
        return self.choose(width, height, turn, is_scalable)


class Decoded(NamedTuple):
    """An image as it is stored.

    Attributes:
        pixels: uint8 [rows, columns, 1 or 3], grey or RGB, from the first of the image on. Outside of the region
            that was asked for they may be missing, or anything.
        scale: each stands for that many pixels, across and down.
        width: of the whole image, unscaled.
        height: likewise.
        turn: what sets it upright.
    """

    pixels: Pixels
    scale: int
    width: int
    height: int
    turn: Turn


def decode(data: Encoded, job: Job, formats: Sequence[str] = SUPPORTED) -> Decoded:
    """Decodes an image file; at least the region that `job.choose` names, of a JPEG at its scale.

    Raises:
        TooManyPixels: it has more than `job.max_pixels`.
        UnsupportedFormat: the magic bytes are of none of `formats`.
        UnsupportedImage: it is of a kind that cannot be decoded.
        UndecodableImage: anything that the decoder cannot read to the end.
        StrippedImage: it was sent as text, which no decoder can read either.
        ImageError: what `job.admit` raises; Stopped, when its client has left.
    """
    name = sniff(data).name
    if name is None or name not in formats:
        raise StrippedImage if is_stripped(data) else UnsupportedFormat(name, formats)
    try:
        return _DECODERS[name](bytes(data), job)  # what is bytes already is not copied
    except Exception as error:
        if is_stripped(data):
            raise StrippedImage from None
        if isinstance(error, ImageError):
            raise
        # Pillow raises OSError, SyntaxError, ValueError, struct.error … for damaged input, with texts
        # that hold object addresses. Only the type of the fault leaves.
        raise UndecodableImage(name) from error


def _decode_jpeg(data: bytes, job: Job) -> Decoded:
    file = read_jpeg(data)
    scans = file.count_scans(data)
    turn = _turn(file.metadata)
    region = job.region(file.size, turn, is_scalable=True)
    job.admit(cost.of_jpeg(file, len(data), scans, region))
    if scans > MAX_SCANS:
        raise UndecodableImage("JPEG")
    pixels = decode_jpeg(file, data, region, job.stop)
    if pixels is None:
        job.stop.check()
        job.admit(cost.of_jpeg_by_pillow(file, len(data), scans, region))
        pixels = _by_pillow(file, data, region, job.stop)
    return Decoded(pixels, region.scale, file.width, file.height, turn)


def _by_pillow(file: JpegFile, data: bytes, region: Region, stop: Stop) -> Pixels:
    """A JPEG at 1/scale of its size."""
    try:
        image = _open(file.without_metadata(data), "JPEG", stop)
        if region.scale > 1:
            image.draft(None, (image.width // region.scale, image.height // region.scale))
        return _pixels(image, region)
    except ImageError:
        raise
    except Exception:
        if file.rarity is not None and not can_decode(file.rarity):
            raise UnsupportedImage(file.rarity, "convert it to a baseline or progressive JPEG") from None
        raise


def _decode_png(data: bytes, job: Job) -> Decoded:
    file = read_png(data)
    turn = _turn(file.metadata)
    region = job.region((file.width, file.height), turn)
    job.admit(cost.of_png(file, region))
    return Decoded(decode_png(file, region, job.stop), 1, file.width, file.height, turn)


def _decode_webp(data: bytes, job: Job) -> Decoded:
    file = read_webp(data)
    turn = _turn(file.metadata)
    region = job.region((file.width, file.height), turn)
    if file.is_animated or library() is None:
        job.admit(cost.of_webp_by_pillow(file, region))
        return _webp_by_pillow(file, turn, job)
    job.admit(cost.of_webp(file, region))
    pixels = decode_region(file.image, (file.width, file.height), file.has_alpha, region)
    return Decoded(pixels, 1, file.width, file.height, turn)


def _webp_by_pillow(file: WebpFile, turn: Turn, job: Job) -> Decoded:
    image = _open(file.image, "WEBP", job.stop)
    if image.size != (file.width, file.height):
        raise ValueError("its header and its frames contradict each other")
    return Decoded(_pixels(image, job.region(image.size, turn)), 1, *image.size, turn)


def _decode_avif(data: bytes, job: Job) -> Decoded:
    image = open_avif(data)
    turn = _turn(Metadata(image.info.get("exif")))
    region = job.region(image.size, turn)
    job.admit(cost.of_heif("AVIF", image.size, len(data), region))
    return Decoded(_pixels(image, region), 1, *image.size, turn)


def _decode_heic(data: bytes, job: Job) -> Decoded:
    image = open_heic(data)
    region = job.region(image.size, Turn())
    job.admit(cost.of_heif("HEIC", image.size, len(data), region))
    return Decoded(_pixels(image, region), 1, *image.size, Turn())


_DECODERS: dict[str, Callable[[bytes, Job], Decoded]] = {
    "JPEG": _decode_jpeg,
    "PNG": _decode_png,
    "WEBP": _decode_webp,
    "AVIF": _decode_avif,
    "HEIC": _decode_heic,
}


def _open(data: bytes, plugin: str, stop: Stop) -> Image.Image:
    # Only the plugin that was sniffed is asked, which keeps every other parser out of reach.
    return Image.open(StoppableFile(data, stop), formats=(plugin,))


def _pixels(image: Image.Image, region: Region) -> Pixels:
    size = image.size
    image.load()
    if image.size != size and region.scale == 1:
        raise ValueError("its header and its pixels contradict each other")
    return pixels_of(image, region)


def _turn(metadata: Metadata) -> Turn:
    return TURNS.get(metadata.orientation, Turn())
