"""Nothing that a client sends makes a library write to the standard error, in the log's form or in its own."""

from __future__ import annotations

import io
import random
import struct
import subprocess
import sys

import pytest
from PIL import Image

from models.images.formats import OPTIONAL, SUPPORTED, installation
from models.images.jpeg import DECODERS
from tests.conftest import ROOT
from tests.models.image_files import (
    chunk,
    encoded,
    entry,
    exif,
    photo,
    png,
    segment,
    with_chunks,
    with_riff_chunks,
    with_segments,
)

SIZE = (40, 30)
JPEG, PNG, WEBP = photo("JPEG"), photo("PNG"), photo("WEBP")

# Each file by each decoder of JPEG, with every warning and every line of the log shown.
CODE = """
import sys
from pathlib import Path

import models.images.jpeg
from models.errors import ImageError
from models.images.preprocess import Preprocessor
from models.bundles.spec import IMAGENET
from models.machine.process import prepare_process
from server.operations.logs import set_up_logs

decoder, folder, *formats = sys.argv[1:]
for name in models.images.jpeg.DECODERS[:models.images.jpeg.DECODERS.index(decoder)]:
    setattr(models.images.jpeg, name, None)
prepare_process()
set_up_logs("debug")
preprocessor = Preprocessor(IMAGENET, formats=tuple(formats))
outcomes = {"taken": 0, "refused": 0}
for file in sorted(Path(folder).iterdir()):
    try:
        preprocessor.open(file.read_bytes())
        outcomes["taken"] += 1
    except ImageError:
        outcomes["refused"] += 1
print(outcomes["taken"], outcomes["refused"])
"""


def odd_exif():
    """EXIF that Pillow warns of, with numbers of the sender's choice."""
    value = struct.pack("<HH", 6, 0)
    for count in (0, 2, 3, 4, 5, 1000, 0xFFFFFFFF):
        yield exif(entry(0x0112, 3, count, value), behind=bytes(2000))
        yield exif(entry(0x011A, 5, count, value), entry(0x0128, 3, count, value), behind=bytes(2000))
    yield exif(count=999)
    yield exif(entry(0x8769, 4, 1, struct.pack("<I", 8)), entry(0x927C, 7, 9000, value))
    yield b"II*\0\x08\0\0\0\xff"
    yield b"no EXIF"


def jpegs():
    for content in odd_exif():
        yield with_segments(JPEG, segment(0xE1, b"Exif\0\0" + content))
    yield with_segments(JPEG, segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"))
    yield with_segments(JPEG, segment(0xE2, b"MPF\0" + exif(entry(0xB001, 4, 1, struct.pack("<I", 9)))))
    yield with_segments(JPEG, segment(0xE2, b"ICC_PROFILE\0\1\2no profile"))
    yield encoded(Image.new("CMYK", SIZE), "JPEG")
    yield photo("JPEG", progressive=True)[:-60] + b"\xff\xd9"


def pngs():
    for content in odd_exif():
        yield with_chunks(PNG, before=chunk(b"eXIf", content))
    for extra in (
        chunk(b"acTL", bytes(8)),
        chunk(b"acTL", struct.pack(">II", 3, 0)) * 2,
        chunk(b"fcTL", bytes(26)),
        chunk(b"iCCP", b"the sender's text\0\0no profile"),
        chunk(b"abcd", b"the sender's text"),
        chunk(b"tEXt", b"the sender's text\0", checksum=1),
        chunk(b"tRNS", bytes(6)),
    ):
        yield with_chunks(PNG, before=extra)
        yield with_chunks(PNG, after=extra)
    yield png([[[0], [1]]], 8, 3, before=chunk(b"PLTE", bytes(6)) + chunk(b"tRNS", b"\x80\x40"))


def webps():
    for content in odd_exif():
        yield with_riff_chunks(WEBP, SIZE, (b"EXIF", content), (b"ICCP", b"no profile"), (b"XMP ", b"<"))


def others():
    image = Image.open(io.BytesIO(PNG))
    sound, odd = (entry(0x0128, 3, count, b"\2\0\2\0") for count in (1, 2))  # encoders refuse to write the odd one
    if installation("AVIF") is None:
        yield encoded(image, "AVIF", exif=b"Exif\0\0" + exif(sound)).replace(sound, odd)
    if installation("HEIC") is None:
        import pillow_heif

        pillow_heif.register_heif_opener()
        yield encoded(image, "HEIF", exif=b"Exif\0\0" + exif(sound)).replace(sound, odd)


def damaged(files):
    """Each file, cut short, and with wrong bytes."""
    chance = random.Random(7)
    for file in files:
        yield file
        yield file[: len(file) * 2 // 3]
        for _ in range(3):
            wrong = bytearray(file)
            for _ in range(4):
                wrong[chance.randrange(16, len(wrong))] = chance.randrange(256)
            yield bytes(wrong)


@pytest.mark.parametrize("decoder", DECODERS)
def test_nothing_is_written_to_the_standard_error(decoder, tmp_path):
    files = list(damaged([*jpegs(), *pngs(), *webps(), *others()]))
    for number, file in enumerate(files):
        (tmp_path / f"{number:04}").write_bytes(file)
    formats = [*SUPPORTED, *(name for name in OPTIONAL if installation(name) is None)]
    command = [sys.executable, "-W", "always", "-c", CODE, decoder, str(tmp_path), *formats]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert done.stderr == ""
    taken, refused = map(int, done.stdout.split())
    assert taken + refused == len(files)
    assert taken > len(files) // 3
    assert refused > len(files) // 10
