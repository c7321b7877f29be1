"""File names and field names as clients write them; none makes a form unreadable."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.http.part_header import MalformedHeader, read_part_header


def disposition(rest):
    text = rest if isinstance(rest, bytes) else rest.encode()
    return read_part_header(b'Content-Disposition: form-data; name="image"; ' + text)


@pytest.mark.parametrize(
    ("written", "filename"),
    [
        ('filename="cat.jpg"', "cat.jpg"),
        ("filename=cat.jpg", "cat.jpg"),
        ('FILENAME = "cat.jpg"', "cat.jpg"),
        ('filename="a;b=c.jpg"', "a;b=c.jpg"),
        ('filename="a\\"b.jpg"', 'a"b.jpg'),
        ('filename="a%22b%0D%0A.jpg"', 'a"b\r\n.jpg'),
        ('filename="100%.jpg"', "100%.jpg"),
        ('filename="C:\\photos\\cat.jpg"', "cat.jpg"),
        ('filename="\\\\server\\cat.jpg"', "cat.jpg"),
        ('filename=""', ""),
        ('filename="not closed', "not closed"),
        (b'filename="Gr\xfc\xdfe.jpg"', "Gr\ufffd\ufffde.jpg"),  # the code page of Windows
        (b'filename="\x82\xa0.jpg"', "\ufffd\ufffd.jpg"),  # Shift JIS
        ("filename*=UTF-8''%C3%A4.gif", "\u00e4.gif"),
        ("filename*=utf-8'de'%C3%A4.gif", "\u00e4.gif"),
        ("filename*=iso-8859-1''%E4.gif", "\u00e4.gif"),
        ("filename*=no-such-charset''%C3%A4.gif", "\u00e4.gif"),
        ("filename*=hex''%C3%A4.gif", "\u00e4.gif"),
        ("filename*=UTF-8''%E4.gif", "\ufffd.gif"),
        ("filename*=utf-7''+2AA-.gif", "?.gif"),  # a lone surrogate
        ("filename*=%C3%A4.gif", "\u00e4.gif"),  # without the charset
        ("filename*=\"UTF-8''%C3%A4.gif\"", "\u00e4.gif"),
        ("filename=\"a.gif\"; filename*=UTF-8''%C3%A4.gif", "\u00e4.gif"),
        ("filename*=UTF-8''%C3%A4.gif; filename=\"a.gif\"", "\u00e4.gif"),
        ('filename*0="long "; filename*1="name.jpg"', "long name.jpg"),
        ("filename*0*=UTF-8''%C3; filename*1*=%A4; filename*2=\"%41.jpg\"", "\u00e4%41.jpg"),
        ('filename*1="b.jpg"; filename*0="a"', "ab.jpg"),
        ('filename="=?UTF-8?B?w6QuanBn?="', "\u00e4.jpg"),
        ('filename="=?UTF-8?Q?=C3=A4.jpg?="', "\u00e4.jpg"),
        ('filename="=?broken?="', "=?broken?="),
        ('filename="=?no-such?Q?a?="', "=?no-such?Q?a?="),
        ('x="y"', None),
    ],
)
def test_the_file_name(written, filename):
    header = disposition(written)
    assert (header.disposed, header.name, header.filename) == (True, "image", filename)


def test_a_field_name_that_is_not_utf_8_and_one_with_a_star():
    assert read_part_header(b'Content-Disposition: form-data; name="gr\xfcn"').name == "gr\ufffdn"
    assert read_part_header(b"Content-Disposition: form-data; name*=UTF-8''gr%C3%BCn").name == "gr\u00fcn"


def test_the_other_headers():
    header = read_part_header(
        b"content-type:  Image/PNG;\r\n\tname=x.png\r\nX-Odd: \xff\r\nContent-Transfer-Encoding: BASE64"
    )
    assert header == (False, "", "x.png", "image/png", "base64")
    assert read_part_header(b"") == (False, "", None, "", "")
    assert read_part_header(b"A: b\nContent-Type: text/plain; charset=latin-1").media_type == "text/plain"


def test_a_line_without_a_colon():
    with pytest.raises(MalformedHeader):
        read_part_header(b"nonsense")


@given(st.binary(max_size=200))
def test_no_bytes_break_it_and_every_name_can_be_sent_back(rest):
    header = disposition(rest.replace(b"\n", b""))
    header.name.encode()
    (header.filename or "").encode()
