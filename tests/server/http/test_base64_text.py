"""Base64 as mail programs, phones and browsers write it; what is wrong is told by character and position."""

from __future__ import annotations

import base64
import textwrap
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.base64_text import BrokenBase64, decode_base64, holds_file
from tests.conftest import flat

DATA = bytes(range(256)) + b"\xfb\xef\xff"  # with + and / in its base64
PLAIN = base64.b64encode(DATA + b"x").decode()  # ends with padding


WAYS = {
    "plain": lambda text: text,
    "lines of 76, CR LF": lambda text: "\r\n".join(textwrap.wrap(text, 76)) + "\r\n",
    "lines of 64, LF": lambda text: "\n".join(textwrap.wrap(text, 64)),
    "white space around": lambda text: f" \t\n{text}\n ",
    "a space within the padding": lambda text: text.replace("=", "=\n"),
    "URL-safe": lambda text: text.replace("+", "-").replace("/", "_"),
    "no padding": lambda text: text.rstrip("="),
    "URL-safe, no padding, in lines": lambda text: "\n".join(
        textwrap.wrap(text.translate(str.maketrans("+/", "-_")).rstrip("="), 76, break_on_hyphens=False)
    ),
    "data URL": lambda text: f"data:image/png;base64,{text}",
    "data URL with parameters": lambda text: f"data:image/png;name=a.png;charset=utf-8;base64,{text}",
    "data URL in capitals, white space": lambda text: f"\n DATA:image/png;BASE64, {text}",
    "data URL without a type": lambda text: f"data:;base64,{text}",
    "data URL, percent-encoded": lambda text: f"data:image/png;base64,{quote(text, safe='')}",
    "data URL, URL-safe without padding": lambda text: (
        f"data:image/png;base64,{text.translate(str.maketrans('+/', '-_')).rstrip('=')}"
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_base64_as_it_is_written(way):
    assert decode_base64(WAYS[way](PLAIN)) == DATA + b"x"


@given(st.binary(max_size=100), st.sampled_from(sorted(WAYS)))
def test_any_bytes_in_any_way(data, way):
    assert decode_base64(WAYS[way](base64.b64encode(data).decode())) == data


def test_a_data_url_without_base64_is_percent_encoded_bytes():
    assert decode_base64("data:image/png," + quote(DATA)) == DATA


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("AAAA%AAA", 'has "%" at character 5,'),
        ("AAAA\nAA*A", 'has "*" at character 8,'),
        ("data:image/png;base64,AA!A", 'has "!" at character 25,'),
        (" data:,", None),
        ("AAAA\u00e4AAA", 'has "\u00e4" at character 5,'),
        ("AAAA\x00AAA", "has U+0000 at character 5,"),
        ("\ud800AAA", "has U+D800 at character 1,"),
        ("AA==AAAA", 'goes on after the "=" at character 3,'),
        ("AAAAA", "has 5 characters without white space and padding, one too many or cut short"),
        ("AAAA\nA===", "has 5 characters without white space and padding, one too many or cut short"),
        ("data:image/png;base64", "is a data URL without a comma"),
    ],
)
def test_what_is_wrong_is_told_exactly(text, fault):
    if fault is None:
        assert decode_base64(text) == b""
        return
    with pytest.raises(BrokenBase64) as error:
        decode_base64(text)
    assert str(error.value).startswith(fault)


@pytest.mark.parametrize("way", WAYS)
def test_a_file_is_recognised_however_it_is_written(way):
    assert holds_file(WAYS[way](base64.b64encode(flat(1)).decode()).encode())


@pytest.mark.parametrize("text", [b"", b"cat", b"iVBORw0KGgo", b"a token of some thirty characters", flat(1)])
def test_other_text_is_no_file(text):
    assert not holds_file(text)
