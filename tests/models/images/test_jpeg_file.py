"""JPEG files: scans are those of the image, metadata decides nothing, unsupported is not damaged."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import models.images.decode
from models.bundles.spec import PreprocessSpec
from models.errors import ImageError, UndecodableImage, UnsupportedImage
from models.images import jpeg_file, jpeg_support
from models.images.jpeg_file import MAX_SCANS, read_jpeg
from models.images.preprocess import Preprocessor
from tests.models.image_files import encoded, photo, segment, with_segments

PREPROCESSOR = Preprocessor(PreprocessSpec(8, 8, "bilinear", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)))
SOS = b"\xff\xda"
SCAN_BYTES = (SOS + b"\0\x08\1\1\0\0\x3f\0") * 5000
SEQUENTIAL = photo("JPEG", quality=90)
PROGRESSIVE = photo("JPEG", quality=90, progressive=True)
KINDS = {"baseline": SEQUENTIAL, "progressive": PROGRESSIVE}


def pixels_of(data):
    return np.asarray(PREPROCESSOR.open(data))


def two_images():
    frames = [Image.open(io.BytesIO(SEQUENTIAL)), Image.new("RGB", (40, 30))]
    return encoded(frames[0], "MPO", save_all=True, append_images=frames[1:], quality=90)


def between_scans(data, content):
    """The file with a segment between its first scan and what follows."""
    second = data.index(b"\xff\xc4", data.index(SOS))
    return data[:second] + content + data[second:]


# Where bytes that look like scans may stand.
NO_SCANS = {
    "a film behind the end": lambda data: data + b"\0\0" + SCAN_BYTES,
    "another image behind the end": lambda data: data + PROGRESSIVE * 50,
    "Photoshop's block": lambda data: with_segments(data, segment(0xED, b"Photoshop 3.0\0" + SCAN_BYTES)),
    "a comment": lambda data: with_segments(data, segment(0xFE, SCAN_BYTES)),
    "a thumbnail": lambda data: with_segments(data, segment(0xE1, b"Exif\0\0" + PROGRESSIVE * 20)),
    "many segments": lambda data: with_segments(data, *[segment(0xEB, SCAN_BYTES)] * 20),
    "fill bytes and a comment": lambda data: with_segments(data, b"\xff" * 1000, segment(0xFE, SCAN_BYTES)),
}


@pytest.mark.parametrize("place", NO_SCANS.values(), ids=NO_SCANS.keys())
@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_are_no_scans_of_the_image_do_not_count(kind, place):
    assert np.array_equal(pixels_of(place(KINDS[kind])), pixels_of(KINDS[kind]))


def test_a_comment_between_scans_does_not_count():
    data = between_scans(PROGRESSIVE, segment(0xFE, SCAN_BYTES))
    assert data.count(SOS) > MAX_SCANS
    assert np.array_equal(pixels_of(data), pixels_of(PROGRESSIVE))


def test_the_second_image_and_a_film_do_not_count():
    wanted = np.asarray(Image.open(io.BytesIO(two_images())))
    assert np.array_equal(pixels_of(two_images()), wanted)
    assert np.array_equal(pixels_of(two_images() + SCAN_BYTES), wanted)


def test_zeros_and_restarts_among_the_pixels_end_nothing():
    noise = Image.effect_noise((200, 200), 250)
    data = encoded(noise, "JPEG", quality=100, progressive=True, restart_marker_blocks=1)
    assert data.count(b"\xff\0") > 20
    assert data.count(b"\xff\xd3") > 20
    last = data.rindex(SOS)
    repeated = data[:last] + data[last:-2] * MAX_SCANS + data[-2:]
    assert jpeg_file._count_scans(data, data.index(SOS)) == data.count(SOS)
    assert jpeg_file._count_scans(repeated, data.index(SOS)) == MAX_SCANS + 1


@pytest.mark.parametrize("piece", [1, 2, 3, 7, 64])
def test_a_marker_at_a_seam_of_the_search_is_found(piece, monkeypatch):
    wanted = PROGRESSIVE.count(SOS)
    monkeypatch.setattr(jpeg_file, "_PIECE", piece)
    assert jpeg_file._count_scans(PROGRESSIVE, PROGRESSIVE.index(SOS)) == wanted


@pytest.fixture
def never_decoded(monkeypatch):
    """Fails where a decoder is asked."""
    monkeypatch.setattr(models.images.decode, "decode_jpeg", lambda *arguments: pytest.fail("decoded"))
    monkeypatch.setattr(Image, "open", lambda *arguments, **options: pytest.fail("decoded"))


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("place", [lambda data: data, *NO_SCANS.values()], ids=["alone", *NO_SCANS])
def test_scans_that_are_repeated_count_whatever_else_is_in_the_file(place):
    last = PROGRESSIVE.rindex(SOS)
    with pytest.raises(UndecodableImage):
        pixels_of(place(PROGRESSIVE[:last] + PROGRESSIVE[last:-2] * 200 + PROGRESSIVE[-2:]))


@pytest.mark.usefixtures("never_decoded")
@pytest.mark.parametrize("length", [b"\0\0", b"\0\1", b"\0\2"])
def test_a_segment_of_no_length_hides_no_scans(length):
    last = PROGRESSIVE.rindex(SOS)
    scan = b"\xff\xfe" + length + PROGRESSIVE[last:-2]
    with pytest.raises(UndecodableImage):
        pixels_of(PROGRESSIVE[:last] + scan * 200 + PROGRESSIVE[-2:])


@pytest.mark.usefixtures("never_decoded")
def test_scans_of_segments_without_end_are_refused():
    last = PROGRESSIVE.rindex(SOS)
    with pytest.raises(UndecodableImage):
        pixels_of(PROGRESSIVE[:last] + segment(0xFE) * 50_000 + PROGRESSIVE[last:] + SCAN_BYTES)


HOSTILE = {
    "0xff": b"\xff" * 1_000_000,
    "stuffed zeros": b"\xff\0" * 500_000,
    "restarts": b"\xff\xd0" * 500_000,
    "segments that point outside": b"\xff\xfe\xff\xff" * 250_000,
    "segments of no length": b"\xff\xfe\0\0" * 250_000,
    "starts of images": b"\xff\xd8" * 500_000,
    "zeros": bytes(1_000_000),
}


@pytest.mark.parametrize("filling", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("where", ["before the frame", "between scans", "instead of pixels"])
def test_fillings_of_any_kind_are_searched_once(filling, where, monkeypatch):
    """Linear: the pattern is never applied to a byte again, but at the seams."""
    searched = []
    monkeypatch.setattr(jpeg_file, "_MARKER", _Counting(jpeg_file._MARKER, searched))
    monkeypatch.setattr(jpeg_file, "_SEGMENT", _Counting(jpeg_file._SEGMENT, searched))
    start = PROGRESSIVE.index(SOS) + 20
    data = {
        "before the frame": PROGRESSIVE[:2] + filling + PROGRESSIVE[2:],
        "between scans": between_scans(PROGRESSIVE, filling),
        "instead of pixels": PROGRESSIVE[:start] + filling,
    }[where]
    try:
        read_jpeg(data).count_scans(data + SCAN_BYTES)
    except ValueError:
        assert where == "before the frame"
    assert sum(searched) <= 1.01 * len(data) + len(SCAN_BYTES)


class _Counting:
    """A pattern that notes how many bytes each search went through."""

    def __init__(self, pattern, searched):
        self.pattern, self.searched = pattern, searched

    def search(self, data, start, stop):
        found = self.pattern.search(data, start, stop)
        self.searched.append((found.end() if found else min(stop, len(data))) - start)
        return found


@given(st.binary(max_size=400), st.integers(0, len(PROGRESSIVE)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_anywhere_are_counted_or_refused(garbage, position):
    data = PROGRESSIVE[:position] + garbage + PROGRESSIVE[position:]
    try:
        file = read_jpeg(data)
    except (ValueError, ImageError):
        return
    assert jpeg_file._count_scans(data, file.first_scan) <= MAX_SCANS + 1


METADATA = {
    "a short JFIF": segment(0xE0, b"JFIF\0"),
    "a short Adobe": segment(0xEE, b"Adobe"),
    "a broken profile": segment(0xE2, b"ICC_PROFILE\0"),
    "a second image that is not there": segment(0xE2, b"MPF\0II*\0\xff\xff\xff\xff"),
    "a broken Photoshop block": segment(0xED, b"Photoshop 3.0\x008BIM\xff"),
    "FlashPix": segment(0xE2, b"FPXR\0"),
    "an empty segment": segment(0xE5),
    "an empty comment": segment(0xFE),
    "EXIF that is none": segment(0xE1, b"Exif\0\0"),
}


@pytest.mark.parametrize("metadata", METADATA.values(), ids=METADATA.keys())
@pytest.mark.parametrize("decoder", ["fastest", "Pillow"])
def test_metadata_does_not_decide(metadata, decoder, monkeypatch):
    if decoder == "Pillow":
        monkeypatch.setattr(models.images.decode, "decode_jpeg", lambda *arguments: None)
    with warnings.catch_warnings(action="error"):
        assert np.array_equal(pixels_of(with_segments(SEQUENTIAL, metadata)), pixels_of(SEQUENTIAL))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}], ids=str)
def test_without_its_metadata_a_file_is_the_same_image(mode, options):
    data = encoded(
        Image.effect_noise((60, 50), 80).convert("RGB").convert(mode), "JPEG", comment="c" * 99, **options
    )
    stripped = read_jpeg(data).without_metadata(data)
    assert len(stripped) < len(data) - 99
    before, after = (Image.open(io.BytesIO(each)) for each in (data, stripped))
    assert np.array_equal(np.asarray(before), np.asarray(after))
    assert before.mode == after.mode == read_jpeg(data).mode


def frame_of(data):
    """Where the frame's marker stands."""
    return next(
        data.index(bytes((0xFF, marker, 0))) for marker in (0xC0, 0xC2) if bytes((0xFF, marker, 0)) in data
    )


def changed(data=SEQUENTIAL, **fields):
    """A JPEG with another frame: process, bits, height or components."""
    start, file = frame_of(data), bytearray(data)
    file[start + 1] = fields.get("process", file[start + 1])
    file[start + 4] = fields.get("bits", file[start + 4])
    file[start + 5 : start + 7] = struct.pack(">H", fields.get("height", 30))
    return bytes(file)


def subsampled(*samplings):
    """A JPEG whose components have other samplings: a hexadecimal digit across, one down."""
    start, file = frame_of(SEQUENTIAL), bytearray(SEQUENTIAL)
    file[start + 11 : start + 20 : 3] = bytes(samplings)
    return bytes(file)


def of_components(number):
    start = frame_of(SEQUENTIAL)
    stop = start + 2 + int.from_bytes(SEQUENTIAL[start + 2 : start + 4])
    frame = struct.pack(">BHHB", 8, 30, 40, number) + b"".join(bytes((each, 0x11, 0)) for each in range(number))
    return SEQUENTIAL[:start] + segment(0xC0, frame) + SEQUENTIAL[stop:]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (changed(bits=12), "JPEG with 12 bits per sample"),
        (changed(bits=16, process=0xC3), "JPEG with 16 bits per sample"),
        (changed(bits=12, process=0xC1), "JPEG with 12 bits per sample"),
        (changed(bits=2, process=0xC3), "JPEG with 2 bits per sample"),
        *[(changed(process=process), "hierarchical JPEG") for process in (0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF)],
        (with_segments(SEQUENTIAL, segment(0xDE, bytes(15))), "hierarchical JPEG"),
        (with_segments(SEQUENTIAL, segment(0xF7, bytes(15))), "JPEG-LS"),
        (changed(height=0), "JPEG that gives its height behind its pixels (DNL)"),
        (subsampled(0x31, 0x21, 0x11), "JPEG with fractional subsampling"),
        (subsampled(0x13, 0x11, 0x12), "JPEG with fractional subsampling"),
        (of_components(2), "JPEG with 2 colour components"),
        (of_components(5), "JPEG with 5 colour components"),
    ],
)
def test_kinds_that_no_decoder_knows_are_unsupported_and_not_damaged(data, kind):
    with pytest.raises(UnsupportedImage) as refusal:
        pixels_of(data)
    assert refusal.value.kind == kind


@pytest.mark.parametrize("kind", ["4:4:4", "4:2:2", "4:2:0"])
def test_usual_subsamplings_are_supported(kind):
    data = photo("JPEG", subsampling=kind)
    assert np.array_equal(pixels_of(data), np.asarray(Image.open(io.BytesIO(data))))


# 16 x 16 pixels of grey, 8 columns of 40 and 8 of 200, as liblj92 writes them.
LOSSLESS = (
    bytes.fromhex(
        "ffd8ffc400160001010100000000000000000000000000000708ffc3000b080010001001001100ffda00080100000600009380d4"
    )
    + bytes(32)
    + b"\xff\xd9"
)
RARE = {0xC3: jpeg_support.LOSSLESS, 0xCB: jpeg_support.LOSSLESS, 0xC9: jpeg_support.ARITHMETIC}


def test_what_this_libjpeg_decodes_is_decoded():
    if jpeg_support.can_decode(jpeg_support.LOSSLESS):
        assert np.array_equal(pixels_of(LOSSLESS), np.repeat([[40] * 8 + [200] * 8], 16, axis=0))
    else:
        with pytest.raises(UnsupportedImage):
            pixels_of(LOSSLESS)


@pytest.mark.parametrize("process", RARE)
@pytest.mark.parametrize("known", [False, True])
def test_damage_is_told_from_what_libjpeg_was_built_without(process, known, monkeypatch):
    monkeypatch.setattr(models.images.decode, "can_decode", {RARE[process]: known}.get)
    data = changed(process=process)[: SEQUENTIAL.index(SOS) + 20]
    with pytest.raises(UndecodableImage if known else UnsupportedImage) as refusal:
        pixels_of(data)
    assert known or refusal.value.kind == RARE[process]


@pytest.mark.parametrize("kind", [jpeg_support.LOSSLESS, jpeg_support.ARITHMETIC])
def test_what_is_tried_is_a_image(kind):
    """What every libjpeg-turbo 3 with arithmetic coding decodes; another one may decode neither."""
    with Image.open(io.BytesIO(jpeg_support._FILES[kind])) as image:
        assert image.size == (8, 8)
    assert jpeg_support.can_decode(kind) in (True, False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_short_is_damaged(kind):
    data = KINDS[kind]
    for length in range(3, len(data) - 3, 41):
        with pytest.raises(UndecodableImage):
            pixels_of(data[:length])
