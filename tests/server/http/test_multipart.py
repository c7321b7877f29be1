"""The boundary scan agrees with a real parser, and takes what the C++ ancestor's scripts send."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from multipart import PushMultipartParser

from server.http.faults import BadRequest, BodyTooLarge
from server.http.multipart import _PIECE, _parse, _scan, parse_multipart

BOUNDARY = "----boundary7"
HEADER = f"multipart/form-data; boundary={BOUNDARY}"


def form(*parts, end="\r\n", preamble=""):
    body = preamble.encode()
    for head, data in parts:
        body += f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n"
    return body + f"--{BOUNDARY}--{end}".encode()


def plain(parts):
    return [(part.name, part.filename, bytes(part.data)) for part in parts]


FILE = 'Content-Disposition: form-data; name="image"; filename="cat.jpg"'


@pytest.mark.parametrize("end", ["\r\n", ""])
@pytest.mark.parametrize("field", ["file", "image"])
def test_the_ancestors_bodies_no_part_type_and_no_line_break_at_the_end(end, field):
    body = form(
        (f'Content-Disposition: form-data; name="{field}"; filename="cat.jpg"', b"\xff\xd8\r\n\r\n--"), end=end
    )
    assert plain(_scan(body, f"--{BOUNDARY}".encode(), 9)) == [(field, "cat.jpg", b"\xff\xd8\r\n\r\n--")]


@pytest.mark.parametrize(
    ("head", "name", "filename"),
    [
        (FILE, "image", "cat.jpg"),
        (FILE + "\r\nContent-Type: image/jpeg", "image", "cat.jpg"),
        ('Content-Disposition: form-data; name="top_k"', "top_k", None),
        ('content-disposition: FORM-DATA; name="top_k"', "top_k", None),
        ('Content-Disposition: form-data; name="ümlaut"; filename="Kätzchen 猫.jpg"', "ümlaut", "Kätzchen 猫.jpg"),
        # for the parser:
        ("Content-Disposition: form-data; name=image; filename=cat.jpg", "image", "cat.jpg"),
        ('Content-Disposition: form-data; filename="cat.jpg"; name="image"', "image", "cat.jpg"),
        ('Content-Disposition: form-data; name="image"; filename="a%22b.jpg"', "image", 'a"b.jpg'),
        (
            'Content-Type: image/jpeg\r\nContent-Disposition: form-data; name="image"; filename="c.jpg"',
            "image",
            "c.jpg",
        ),
        ("Content-Transfer-Encoding: binary\r\n" + FILE, "image", "cat.jpg"),
    ],
)
def test_headers_as_clients_spell_them(head, name, filename):
    assert plain(parse_multipart(form((head, b"data")), HEADER, 9)) == [(name, filename, b"data")]


@pytest.mark.parametrize(
    "data",
    [b"", b"x", b"x\r", b"\n", b"x\r\n", b"\r\n\r\nx", b"a\n--b\n", b"within a line: --" + BOUNDARY.encode()],
)
def test_lines_that_end_with_lf_leave_the_content_as_it_is(data):
    for line in ("\n", "\r\n"):
        head, last = f"a preamble{line}--{BOUNDARY}{line}{FILE}{line}{line}", f"{line}--{BOUNDARY}--"
        body = head.encode() + data + last.encode()
        for end in (b"", line.encode()):
            assert plain(parse_multipart(body + end, HEADER, 9)) == [("image", "cat.jpg", data)]


def test_several_parts_an_empty_one_and_a_preamble():
    parts = [(FILE, b"one"), ('Content-Disposition: form-data; name="x"', b""), (FILE, b"three")]
    wanted = [("image", "cat.jpg", b"one"), ("x", None, b""), ("image", "cat.jpg", b"three")]
    assert plain(parse_multipart(form(*parts), HEADER, 9)) == wanted
    assert plain(parse_multipart(form(*parts, preamble="hello\r\n"), HEADER, 9)) == wanted


def test_a_quoted_boundary():
    body = form((FILE, b"x"))
    assert parse_multipart(body, f'multipart/form-data; charset=utf-8; boundary="{BOUNDARY}"', 9)


@pytest.mark.parametrize("preamble", ["", "for the parser\r\n"])
def test_more_parts_than_allowed_are_not_read(preamble):
    body = form(*[(FILE, b"x")] * 4, preamble=preamble)
    assert len(parse_multipart(body, HEADER, 4)) == 4
    with pytest.raises(BodyTooLarge):
        parse_multipart(body, HEADER, 3)


@pytest.mark.parametrize("where", [0, 1, 2, 3, 30])
def test_a_boundary_that_lies_across_two_pieces_is_found(where):
    image = bytes(2 * _PIECE - 100 - where)
    for preamble in ("", "for the parser\r\n"):
        body = form((FILE, image), (FILE, b"second"), preamble=preamble)
        parts = parse_multipart(bytearray(body), HEADER, 9)
        assert [len(part.data) for part in parts] == [len(image), 6]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        form((FILE, b"data"))[:-10],
        form((FILE, b"data")).replace(b"\r\n\r\n", b"\r\n"),
        form(("X: y", b"data")),
        b"--" + BOUNDARY.encode() + b"\r\n" + FILE.encode(),
    ],
)
def test_what_is_no_form_is_a_bad_request(body):
    with pytest.raises(BadRequest):
        parse_multipart(body, HEADER, 9)


@pytest.mark.parametrize(
    "header",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/mixed; boundary=x",
        "multipart/form-data; boundary=\u00fc",
    ],
)
def test_no_usable_boundary(header):
    with pytest.raises(BadRequest, match="boundary"):
        parse_multipart(form((FILE, b"x")), header, 9)


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n%'), max_size=8),
            st.none() | st.text(st.characters(codec="utf-8", exclude_characters='"\\\r\n%\0'), max_size=8),
            st.binary(max_size=60)
            | st.sampled_from([b"\r\n", b"--", b"\r\n--", b"\r\n------boundary", b"\r\n\r\n"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from(["", "\r\n"]),
)
def test_the_scan_reads_exactly_what_the_parser_reads(parts, end):
    heads = [
        f'Content-Disposition: form-data; name="{name}"' + ("" if filename is None else f'; filename="{filename}"')
        for name, filename, _ in parts
    ]
    body = form(*zip(heads, [data for *_, data in parts], strict=True), end=end)
    scanned = _scan(body, f"--{BOUNDARY}".encode(), 9)
    assert scanned is not None
    assert plain(scanned) == plain(_parse(body, BOUNDARY, 9)) == by_the_library(body)


def by_the_library(body):
    """What another parser finds."""
    found = []
    with PushMultipartParser(BOUNDARY) as parser:
        for event in parser.parse(body):
            if isinstance(event, bytes | bytearray):
                found[-1] = (*found[-1][:2], found[-1][2] + event)
            elif event is not None:
                found.append((event.name, event.filename, b""))
    return found


@given(st.binary(max_size=300), st.integers(0, 400))
def test_a_damaged_form_never_gives_anything_but_parts_or_a_bad_request(garbage, cut):
    body = form((FILE, b"image" * 20), (FILE, garbage))
    for damaged in (body[:cut], body[:cut] + garbage + body[cut:], garbage):
        with contextlib.suppress(BadRequest):
            parse_multipart(damaged, HEADER, 9)
