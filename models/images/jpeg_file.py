"""The segments of a JPEG file: facts of the image, and which of them the decoder needs (ITU T.81, B.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from models.errors import UnsupportedImage
from models.images.exif import Metadata
from models.images.jpeg_support import ARITHMETIC, LOSSLESS

_SOS, _EOI, _DHP, _COM, _SOF_LS = 0xDA, 0xD9, 0xDE, 0xFE, 0xF7
_APP0, _APP1, _APP14, _APP15 = 0xE0, 0xE1, 0xEE, 0xEF
_BARE = frozenset((0x01, *range(0xD0, 0xDA)))  # markers without a length: TEM, RSTn, SOI, EOI
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # SOFn, without DHT, JPG and DAC
_PROGRESSIVE = frozenset((0xC2, 0xCA))
_HIERARCHICAL = frozenset((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF, _DHP))
_LOSSLESS = frozenset((0xC3, 0xCB))
_ARITHMETIC = frozenset((0xC9, 0xCA))
_CONVERT = "convert it to a baseline or progressive JPEG"
_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
# An APP segment that is shorter is none of JFIF's or Adobe's, which tell the colour space (libjpeg: jdmarker.c).
_LEAST_BYTES = {_APP0: 14, _APP14: 12}

# A marker, among segments; fill bytes 0xff and what is no segment at all are passed over.
_MARKER = re.compile(rb"\xff[\x01-\xfe]")
_MOST_JUNK = 1 << 16
# In the pixels' own bytes 0xff stands only before zero, a restart marker (0xd0 to 0xd7) or the next segment.
_SEGMENT = re.compile(rb"\xff[\xc0-\xcf\xd8-\xfe]")
_PIECE = 1 << 18  # bytes that are searched at once: another thread may run in between

# A progressive JPEG has about ten scans, each of which is a pass over all pixels; a made-up one repeated a scan of
# 75 bytes 300 times and took 15 s.
MAX_SCANS = 100
# Segments that a file may have, beyond one for each kilobyte.
_SPARE_SEGMENTS = 10_000

_Segment = tuple[int, int, int]


class JpegFile(NamedTuple):
    """What stands before the first scan.

    Attributes:
        width: of the image, in pixels.
        height: likewise.
        mode: as Pillow names it: L, RGB or CMYK.
        process: the marker of its frame, 0xc0 for baseline.
        metadata: EXIF and XMP.
        needed: start and stop of each segment that counts for the pixels, in the file.
        first_scan: where the marker of the first scan stands.
        samples: of all components together, for each pixel: 3 without subsampling, 1.5 with the usual one.
    """

    width: int
    height: int
    mode: str
    process: int
    samples: float
    metadata: Metadata
    needed: list[tuple[int, int]]
    first_scan: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height, in pixels."""
        return self.width, self.height

    def count_scans(self, data: bytes) -> int:
        """How many scans a decoder goes through, counted up to one more than `MAX_SCANS`; data: the file."""
        # Where the first scan of an image that is not progressive holds all components, libjpeg refuses a second
        # one (jdapimin.c, consume_markers). Others cost half a millisecond for each MB.
        if self.process not in _PROGRESSIVE and data[self.first_scan + 4] == self._components:
            return 1
        return _count_scans(data, self.first_scan)

    def without_metadata(self, data: bytes) -> bytes:
        """The file without what does not count for its pixels; data: the file."""
        segments = (data[start:stop] for start, stop in self.needed)
        return b"".join((b"\xff\xd8", *segments, data[self.first_scan :]))

    @property
    def rarity(self) -> str | None:
        """What not every libjpeg decodes and this image needs: `LOSSLESS` or `ARITHMETIC`, or None."""
        if self.process in _LOSSLESS:
            return LOSSLESS
        return ARITHMETIC if self.process in _ARITHMETIC else None

    @property
    def is_progressive(self) -> bool:
        """Whether each scan makes the whole image better."""
        return self.process in _PROGRESSIVE

    @property
    def is_arithmetic(self) -> bool:
        """Whether it is coded arithmetically, which takes longer to read."""
        return self.process in _ARITHMETIC

    @property
    def _components(self) -> int:
        return {"L": 1, "RGB": 3, "CMYK": 4}[self.mode]


def read_jpeg(data: bytes) -> JpegFile:
    """Reads the segments up to the first scan; nothing of them is copied but EXIF and XMP.

    Raises:
        UnsupportedImage: it is of a kind that libjpeg does not decode.
        ValueError: it is damaged or cut short.
    """
    frame: _Segment | None = None
    needed: list[tuple[int, int]] = []
    exif = xmp = None
    for segment in _segments(data):
        marker, start, stop = segment
        if marker == _SOS and frame is not None:
            return JpegFile(*_image(data, frame), Metadata(exif, xmp), needed, start)
        if marker in _FRAMES or marker in (_DHP, _SOF_LS):
            frame = segment
            _check_process(marker)
        if marker == _APP1 and exif is None and data.startswith(b"Exif\0\0", start + 4):
            exif = data[start + 4 : stop]
        elif marker == _APP1 and xmp is None and data.startswith(b"http://ns.adobe.com/xap/1.0/\0", start + 4):
            xmp = data[start + 4 : stop]
        if _is_needed(segment):
            needed.append((start, stop))
    raise ValueError("there is no scan")


def _segments(data: bytes) -> Iterator[_Segment]:
    """(marker, start, stop) of each segment behind the start of the image, up to the first scan or the end."""
    position = 2
    for _ in range(_most_segments(data)):
        found = _MARKER.search(data, position, position + _MOST_JUNK)
        if found is None:
            return
        start = found.start()
        marker = data[start + 1]
        stop = start + 2 + (0 if marker in _BARE else _length(data, start))
        if stop > len(data) or marker == _EOI:
            return
        yield marker, start, stop
        position = stop


def _length(data: bytes, start: int) -> int:
    return int.from_bytes(data[start + 2 : start + 4])


def _most_segments(data: bytes) -> int:
    return _SPARE_SEGMENTS + len(data) // 1024


def _is_needed(segment: _Segment) -> bool:
    marker, start, stop = segment
    if marker in _LEAST_BYTES:
        return stop - start - 4 >= _LEAST_BYTES[marker]
    return not (_APP1 <= marker <= _APP15 or marker == _COM)


def _image(data: bytes, frame: _Segment) -> tuple[int, int, str, int, float]:
    """(width, height, mode, process, samples), if it is of a kind that can be decoded."""
    process, start, stop = frame
    bits, height, width, components = (
        int.from_bytes(data[start + first : start + last]) for first, last in ((4, 5), (5, 7), (7, 9), (9, 10))
    )
    if stop - start < 10 + 3 * components or not width or not components:
        raise ValueError("the frame's header is cut short")
    if bits != 8:
        raise UnsupportedImage(f"JPEG with {bits} bits per sample", "convert it to 8 bits")
    if not height:
        raise UnsupportedImage("JPEG that gives its height behind its pixels (DNL)", _CONVERT)
    if components not in _MODES:
        raise UnsupportedImage(f"JPEG with {components} colour components", "convert it to RGB")
    samplings = data[start + 11 : stop : 3][:components]
    if _is_fractional(data[start + 11 : stop : 3]):
        raise UnsupportedImage("JPEG with fractional subsampling", _CONVERT)
    return width, height, _MODES[components], process, _samples(samplings)


@lru_cache(maxsize=64)  # files come with few of them
def _samples(samplings: bytes) -> float:
    """Of all components, for each pixel; each byte: across and down."""
    across, down = [each >> 4 or 1 for each in samplings], [each & 15 or 1 for each in samplings]
    total = sum(a * b for a, b in zip(across, down, strict=True))
    return total / (max(across) * max(down))


def _is_fractional(samplings: bytes) -> bool:
    """Whether a component has, say, two samples where another has three; each byte: across and down."""
    return any(
        max(values) % value
        for values in ([each >> 4 for each in samplings], [each & 15 for each in samplings])
        for value in values
        if value
    )


def _check_process(marker: int) -> None:
    if marker in _HIERARCHICAL:
        raise UnsupportedImage("hierarchical JPEG", _CONVERT)
    if marker == _SOF_LS:
        raise UnsupportedImage("JPEG-LS", _CONVERT)


def _count_scans(data: bytes, position: int) -> int:
    """The scans of the image from the one at `position` on, counted up to one more than `MAX_SCANS`.

    What is inside of other segments, or behind the end of the image, is no scan of it.
    """
    count = 0
    for _ in range(_most_segments(data)):
        marker = data[position + 1]
        count += marker == _SOS
        if marker == _EOI or count > MAX_SCANS:
            return count
        position = _next_segment(data, position + 2 + _length(data, position))
        if position < 0:
            return count
    return MAX_SCANS + 1  # made up of segments


def _next_segment(data: bytes, position: int) -> int:
    """Where the next segment behind the pixels' bytes begins; -1: nowhere."""
    for start in range(position, len(data), _PIECE):
        found = _SEGMENT.search(data, start, start + _PIECE + 1)
        if found is not None:
            return found.start()
    return -1
