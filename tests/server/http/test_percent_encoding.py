"""Percent-encoding of any length is decoded as the library does, without an object for every escape at once."""

from __future__ import annotations

import tracemalloc
from urllib.parse import unquote_to_bytes

import pytest

from server.http.percent_encoding import _PIECE, percent_decoded


@pytest.mark.parametrize("text", [b"", b"abc", b"%41%2b%zz%", b"100%", b"%2", "%C3%A4 \u00e4".encode()])
def test_short_texts(text):
    assert percent_decoded(text) == unquote_to_bytes(text)


@pytest.mark.parametrize("before", range(6))
def test_an_escape_that_lies_across_two_pieces(before):
    for unit in (b"%41", b"a%2Bb", b"%", b"%%41"):
        text = b"x" * before + unit * (_PIECE // 2)
        assert percent_decoded(text) == unquote_to_bytes(text)


def test_a_body_of_escapes_alone_takes_no_more_memory_than_a_few_times_its_length():
    text = b"%41" * 1_000_000
    tracemalloc.start()
    try:
        assert percent_decoded(text) == b"A" * 1_000_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 5 * len(text)
