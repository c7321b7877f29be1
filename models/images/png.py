"""PNG: the chunks that count for the pixels, and the pixels (https://www.w3.org/TR/png-3/)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageFile

from models.errors import UnsupportedImage
from models.images.colour import cut, on_white, pixels_of, to_rgb
from models.images.exif import MOST_BYTES, Metadata
from models.images.geometry import Pixels, Region
from models.images.stop import Stop, StoppableFile
from models.images.strips import read_strips

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types
_BANDS = {_GREY: 1, _RGB: 3, _PALETTE: 1, 4: 2, 6: 4}
_TEXTS = {b"Raw profile type exif": "exif", b"Raw profile type APP1": "exif", b"XML:com.adobe.xmp": "xmp"}
_MOST_KEYWORD = 80
_PIECE = 1 << 14  # bytes that are decoded at once; they unpack to 16 MB at most
# Chunks that a file may have, beyond one for each kilobyte.
_SPARE_CHUNKS = 10_000

_Chunk = tuple[bytes, int, int]


class PngFile(NamedTuple):
    """What counts of a PNG file.

    Attributes:
        width: in pixels.
        height: likewise.
        depth: bits per sample, or per palette index.
        colour: type: 0 grey, 2 RGB, 3 palette, 4 grey with alpha, 6 RGBA.
        palette: PLTE, RGB bytes, for colour type 3.
        transparency: tRNS: alphas of the palette, or a transparent colour of 16 bits a sample; may be empty.
        metadata: EXIF and XMP.
        interlaced: whether it is stored in seven passes.
        image: the file without any other chunk.
    """

    width: int
    height: int
    depth: int
    colour: int
    palette: bytes
    transparency: bytes
    metadata: Metadata
    interlaced: bool
    image: bytes

    @property
    def bits(self) -> int:
        """Of a pixel."""
        return self.depth * _BANDS[self.colour]

    @property
    def has_palette(self) -> bool:
        """Whether a pixel is an index."""
        return self.colour == _PALETTE

    @property
    def has_alpha(self) -> bool:
        """Whether each pixel has an alpha of its own."""
        return self.colour > _PALETTE

    @property
    def has_key(self) -> bool:
        """Whether one of its colours is transparent."""
        return self.colour in (_GREY, _RGB) and bool(self.transparency)


def read_png(data: bytes) -> PngFile:
    """Finds what counts; other chunks are skipped, neither checked nor unpacked.

    EXIF and XMP are found wherever they are stored, and unpacked up to `MOST_BYTES`.

    Raises:
        UnsupportedImage: it is of Apple's own kind.
        ValueError: the header, the palette or its transparency is damaged, or there are no pixels.
    """
    chunks: dict[bytes, _Chunk] = {}
    texts: dict[str, bytes] = {}
    pixels: slice | None = None
    for chunk in _chunks(data):
        name, start, stop = chunk
        if name == b"IDAT":
            # Those that follow each other are one stream.
            if pixels is None:
                pixels = slice(start - 8, stop + 4)
            elif pixels.stop == start - 8:
                pixels = slice(pixels.start, stop + 4)
        elif name in (b"tEXt", b"zTXt", b"iTXt"):
            _take_text(data, chunk, texts)
        elif pixels is None or name == b"eXIf":
            chunks.setdefault(name, chunk)
    if b"CgBI" in chunks:
        raise UnsupportedImage(
            "PNG as Xcode writes it for iOS (CgBI)", "convert it with pngcrush -revert-iphone-optimizations"
        )
    if pixels is None:
        raise ValueError("there are no pixels")
    return _png_file(data, chunks, texts, data[pixels])


def decode_png(file: PngFile, region: Region, stop: Stop) -> Pixels:
    """Decodes at least a region: grey or RGB, transparency on white; 16 bits keep their high byte.

    Returns:
        uint8 [rows, columns, 1 or 3], as `read_strips` gives it.

    Raises:
        Stopped: `stop` was set.
    """
    image = _open(file, stop)
    if file.has_palette:
        colours = _colours(file)
        return read_strips(region, lambda box: colours[np.asarray(cut(image, box))])
    if not file.has_key:
        return pixels_of(image, region)
    # Pillow has no mode for 16 bits of colour: once more, for the low bytes.
    low = _open(file, stop, "RGB;16L") if file.depth == 16 and file.colour == _RGB else None
    return read_strips(region, lambda box: _without_key(file, cut(image, box), low and cut(low, box)))


def _chunks(data: bytes) -> Iterator[_Chunk]:
    """(name, start, stop) of the contents of each chunk, up to the end; the last may have been cut short."""
    position = len(_SIGNATURE)
    for _ in range(_SPARE_CHUNKS + len(data) // 1024):
        length, name = int.from_bytes(data[position : position + 4]), data[position + 4 : position + 8]
        if not (len(name) == 4 and name.isalpha()) or name == b"IEND":
            return
        yield name, position + 8, position + 8 + length
        position += 12 + length


def _take_text(data: bytes, chunk: _Chunk, texts: dict[str, bytes]) -> None:
    """Keeps the first text of each of `_TEXTS`."""
    name, start, stop = chunk
    keyword = data[start : min(stop, start + _MOST_KEYWORD)].partition(b"\0")[0]
    kind = _TEXTS.get(keyword)
    if kind is not None and kind not in texts and _is_sound(data, chunk):
        texts[kind] = _text(name, data[start + len(keyword) + 1 : stop])


def _text(name: bytes, content: bytes) -> bytes:
    """What follows the keyword; of it as much as is looked at."""
    if name == b"tEXt":
        return content[:MOST_BYTES]
    if name == b"zTXt":
        return _unpacked(content[1:])
    text = content[2:].split(b"\0", 2)[-1]  # behind the language and the translated keyword
    return _unpacked(text) if content[:1] == b"\1" else text[:MOST_BYTES]


def _unpacked(content: bytes) -> bytes:
    try:
        return zlib.decompressobj().decompress(content[:MOST_BYTES], MOST_BYTES)
    except zlib.error:
        return b""


def _png_file(data: bytes, chunks: dict[bytes, _Chunk], texts: dict[str, bytes], pixels: bytes) -> PngFile:
    header, palette, transparency = (_content(data, chunks.get(name)) for name in (b"IHDR", b"PLTE", b"tRNS"))
    width, height, depth, colour, _, _, interlace = struct.unpack(">IIBBBBB", header[:13])
    if not width or not height or interlace > 1 or colour not in _BANDS or (colour == _PALETTE and not palette):
        raise ValueError("the header or the palette is wrong")
    if transparency and len(transparency) < {_GREY: 2, _RGB: 6}.get(colour, 0):
        raise ValueError("the transparent colour is cut short")
    image = b"".join((_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"PLTE", palette), pixels))
    metadata = _metadata(data, chunks, texts)
    return PngFile(width, height, depth, colour, palette, transparency, metadata, bool(interlace), image)


def _content(data: bytes, chunk: _Chunk | None) -> bytes:
    """The bytes of a chunk that counts for the pixels; empty: there is none."""
    if chunk is None:
        return b""
    if not _is_sound(data, chunk):
        raise ValueError("a checksum is wrong")
    return data[chunk[1] : chunk[2]]


def _is_sound(data: bytes, chunk: _Chunk) -> bool:
    name, start, stop = chunk
    return zlib.crc32(data[start:stop], zlib.crc32(name)) == int.from_bytes(data[stop : stop + 4])


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _metadata(data: bytes, chunks: dict[bytes, _Chunk], texts: dict[str, bytes]) -> Metadata:
    chunk = chunks.get(b"eXIf")
    if chunk is not None and _is_sound(data, chunk):
        return Metadata(data[chunk[1] : chunk[2]], texts.get("xmp"))
    return Metadata(_from_hex(texts.get("exif", b"")), texts.get("xmp"))


def _from_hex(text: bytes) -> bytes | None:
    """ImageMagick's way of storing EXIF: an empty line, its name, its length, and lines of hexadecimal digits."""
    digits = b"".join(text.split(b"\n")[3:])
    try:
        return bytes.fromhex(digits[: len(digits) // 2 * 2].decode("ascii"))
    except ValueError:
        return None


def _open(file: PngFile, stop: Stop, rawmode: str | None = None) -> Image.Image:
    """The image as Pillow decodes it; rawmode: how it is to read the samples, if not as it would."""
    image: ImageFile.ImageFile = Image.open(StoppableFile(file.image, stop), formats=("PNG",))
    image.decodermaxblock = _PIECE
    if rawmode is not None:
        image.tile = [tile._replace(args=rawmode) for tile in image.tile]
    image.load()
    return image


def _colours(file: PngFile) -> Pixels:
    """uint8 [256, 3]: the palette on white; what it lacks is black."""
    colours = np.zeros((256, 4), np.uint8)
    colours[:, 3] = 255
    entries = min(256, len(file.palette) // 3)
    colours[:entries, :3] = np.frombuffer(file.palette, np.uint8, 3 * entries).reshape(-1, 3)
    alphas = np.frombuffer(file.transparency[:256], np.uint8)
    colours[: len(alphas), 3] = alphas
    palette: Pixels = on_white(colours[None])[0]
    return palette


def _without_key(file: PngFile, image: Image.Image, low: Image.Image | None) -> Pixels:
    """Its pixels with white in place of the transparent colour, of which all bits of all samples count.

    Args:
        file: that it is of.
        image: a box of it.
        low: the same box of an image of the samples' low bytes, where `image` holds only the high ones.
    """
    pixels = np.atleast_3d(np.array(to_rgb(image)))
    samples = np.atleast_3d(np.asarray(image)) if image.mode.startswith("I;16") else pixels
    # Bits beyond the sample's depth do not count (PNG 3, 11.3.1.1).
    key = np.frombuffer(file.transparency, ">u2", pixels.shape[2]).astype(np.uint16) & ((1 << file.depth) - 1)
    if file.depth < 8:
        key *= 255 // ((1 << file.depth) - 1)  # as the samples are stretched
    if low is None:
        transparent = (samples == key).all(2)
    else:
        transparent = (samples == key >> 8).all(2) & (np.asarray(low) == key & 255).all(2)
    pixels[transparent] = 255
    return pixels
