"""Forms, JSON and base64 as clients send them: no file vanishes, and what is refused is named."""

from __future__ import annotations

import base64
import json
import textwrap
from urllib.parse import quote, urlencode

import numpy as np
import pytest

from tests.conftest import encode, flat
from tests.server.conftest import problem_of
from tests.server.test_classify import read, scores_of

XYZ = "multipart/form-data; boundary=XyZ"
FORM = {"Content-Type": XYZ}
JSON = {"Content-Type": "application/json"}
URLENCODED = {"Content-Type": "application/x-www-form-urlencoded"}
GIF = b"GIF89a" + bytes(40)
PNG = encode(np.random.default_rng(3).integers(0, 77, (8, 8, 3), np.uint8))  # + and / are in its base64
TEXT = base64.b64encode(PNG).decode()
DISPOSITION = b"Content-Disposition: form-data; "
FILE = DISPOSITION + b'name="photo"; filename="b.png"'


def body_of(*parts, line=b"\r\n", last=b"--XyZ--"):
    """A form. parts: (headers, content)."""
    head = b"".join(b"--XyZ" + line + headers + line * 2 + content + line for headers, content in parts)
    return head + last + line


def field(name, content=b"", **parameters):
    rest = "".join(f'; {key}="{value}"' for key, value in parameters.items())
    return f'Content-Disposition: form-data; name="{name}"{rest}'.encode(), content


async def answer(server, body, headers=FORM, path="/classify", method="POST"):
    async with server.session.request(method, server.url + path, data=body, headers=headers) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def refusal(server, body, headers=FORM, status=400, path="/classify"):
    async with server.post(body, path, headers=headers) as response:
        return await problem_of(response, status)


@pytest.mark.parametrize(
    ("headers", "filename"),
    [
        (DISPOSITION + b'name="photo"; filename="\xe4.gif"', "\ufffd.gif"),
        (DISPOSITION + b"name=\"photo\"; filename*=UTF-8''%C3%A4.gif", "\u00e4.gif"),
        (DISPOSITION + b"name=\"photo\"; filename*0*=UTF-8''%C3%A4; filename*1=.gif", "\u00e4.gif"),
        (DISPOSITION + b"name=\"x\"; filename*=''\r\nContent-Type: image/gif", ""),
        (DISPOSITION + b'name="photo"\r\nContent-Type: image/gif', None),
        (DISPOSITION + b'name="photo"\r\nContent-Type: application/octet-stream', None),
        (DISPOSITION + b'name="photo\xff"\r\nContent-Type: image/gif', None),
        (b"Content-Disposition: form-data\r\nContent-Type: image/gif", None),
        (DISPOSITION + b'filename="x.gif"', "x.gif"),
        (DISPOSITION + b'name="image"', None),
        (DISPOSITION + b'name="file"\r\nContent-Type: text/plain', None),
        (DISPOSITION + b'name="top_k"; filename="x.gif"', "x.gif"),
        (b'Content-Disposition: attachment; name="a"; filename="x.gif"', "x.gif"),
    ],
)
async def test_no_file_vanishes_and_shifts_those_behind_it(start, headers, filename):
    server = await start()
    first, second = (await answer(server, body_of((headers, GIF), (FILE, PNG))))["results"]
    assert first["filename"] == filename
    assert first["error"]["type"] == "urn:snapserve:problem:unsupported-format"
    assert read(second["predictions"]) == scores_of(PNG)[:5]


@pytest.mark.parametrize(
    "other",
    [
        field("submit", b"Send"),
        field("token", b"Zm9vYmFyZm9vYmFyZm9vYmFyZm9vYmFy"),
        field("photo", b"", filename=""),  # a file input that was left alone
        (DISPOSITION + b'name="note"\r\nContent-Type: text/plain; charset=utf-8', b"a cat"),
        (DISPOSITION + b'name="meta"\r\nContent-Type: application/json', b'{"a": 1}'),
        (DISPOSITION + b'name="top_k"\r\nContent-Type: text/plain', b"5"),
        (DISPOSITION + b'name="top_k"\r\nContent-Type: application/octet-stream', b"5"),
    ],
)
async def test_a_text_field_is_no_file(start, other):
    server = await start()
    assert read((await answer(server, body_of(other, (FILE, PNG))))["predictions"]) == scores_of(PNG)[:5]


LINES = "\r\n".join(textwrap.wrap(TEXT, 76)).encode()


@pytest.mark.parametrize(
    "part",
    [
        field("image", TEXT.encode()),
        field("file", b"data:image/png;base64," + TEXT.encode()),
        field("photo", b"data:image/png;base64," + TEXT.encode()),
        field("photo", LINES),
        field("image", TEXT.rstrip("=").replace("+", "-").replace("/", "_").encode()),
        field("photo", TEXT.encode(), filename="cat.b64"),
        (FILE + b"\r\nContent-Transfer-Encoding: base64", LINES),
        (FILE + b"\r\nContent-Transfer-Encoding: binary", PNG),
        (DISPOSITION + b'name="image"\r\nContent-Type: text/plain', TEXT.encode()),
    ],
)
async def test_base64_in_a_form_is_a_image(start, part):
    server = await start()
    assert read((await answer(server, body_of(part)))["predictions"]) == scores_of(PNG)[:5]


@pytest.mark.parametrize("kind", ["form-data", "mixed", "related"])
@pytest.mark.parametrize("boundary", ["XyZ", '"XyZ"'])
@pytest.mark.parametrize("line", [b"\r\n", b"\n"])
async def test_line_feeds_quoted_boundaries_and_other_kinds(start, kind, boundary, line):
    server = await start()
    headers = {"Content-Type": f"Multipart/{kind}; charset=utf-8; boundary={boundary}"}
    body = body_of((FILE, PNG), (FILE + line + b"Content-Type: image/png", flat(9)), line=line)
    results = (await answer(server, body, headers))["results"]
    assert [read(each["predictions"]) for each in results] == [scores_of(png)[:5] for png in (PNG, flat(9))]


async def test_a_mixed_body_needs_no_content_disposition(start):
    server = await start()
    headers = {"Content-Type": "multipart/mixed; boundary=XyZ"}
    body = body_of((b"Content-Type: image/png; name=a.png", PNG)) + b"an epilogue"
    assert read((await answer(server, b"a preamble\r\n" + body, headers))["predictions"]) == scores_of(PNG)[:5]


@pytest.mark.parametrize(
    ("body", "content_type", "words"),
    [
        (body_of((FILE, PNG)), "multipart/form-data", "names no boundary"),
        (body_of((FILE, PNG)), "multipart/form-data; boundary=", "names no boundary"),
        (body_of((FILE, PNG)), 'multipart/form-data; boundary=""', "names no boundary"),
        (body_of((FILE, PNG)), "multipart/form-data; boundary=" + "x" * 201, "at most 200 ASCII characters"),
        (body_of((FILE, PNG)), "multipart/form-data; boundary=abc", "another boundary than its Content-Type"),
        (body_of((FILE, PNG)), "multipart/alternative; boundary=XyZ", "multipart/form-data is needed"),
        (b'{"inputs": 3}', XYZ, "no line of the body is its boundary"),
        (body_of((FILE, PNG))[:-30], XYZ, "cut short"),
        (body_of((FILE, PNG), last=b""), XYZ, "cut short"),
        (body_of((b"X: y", PNG)), XYZ, "Part 1 of the form has no Content-Disp"),
        (
            body_of((FILE, PNG), (b"nonsense", PNG)),
            XYZ,
            "Part 2 of the form has a",
        ),
        (
            b"--XyZ\r\n" + FILE + b"\r\n--XyZ--",
            XYZ,
            "Part 1 of the form has no emp",
        ),
        (body_of((FILE + b"x" * 9000, PNG)), XYZ, "no empty line within 4,096"),
        (body_of(), XYZ, "holds no file"),
        (body_of(field("photo", b"", filename="")), XYZ, "holds no file"),
        (
            body_of(field("photo", b"", filename="a.jpg")),
            XYZ,
            "file a.jpg is empty",
        ),
        (body_of(field("image")), XYZ, 'The field "image" is empty'),
        (
            body_of(field("image", b"cat.jpg")),
            XYZ,
            'The field "image" must be base64',
        ),
        (body_of((FILE, PNG), field("top_k", b"\xff")), XYZ, "top_k is not UTF-8"),
    ],
)
async def test_every_way_in_which_a_form_can_be_wrong_has_its_words(start, body, content_type, words):
    server = await start()
    problem = await refusal(server, body, {"Content-Type": content_type})
    assert words in problem["detail"]


async def test_a_boundary_that_floods_a_part_is_refused_and_a_few_are_data(start):
    server = await start()
    for count, wanted in ((3, 415), (2000, 400)):
        body = b"a preamble\r\n" + body_of((FILE, b"--XyZa" * count))
        await refusal(server, body, status=wanted)


@pytest.mark.parametrize("content_type", ["application/octet-stream", "image/jpeg", "text/plain"])
async def test_a_form_whose_content_type_was_overwritten(start, content_type):
    server = await start()
    for line in (b"\r\n", b"\n"):
        problem = await refusal(server, body_of((FILE, PNG), line=line), {"Content-Type": content_type}, 415)
        assert "looks like a form whose Content-Type is missing" in problem["hint"]


async def test_empty_and_broken_files_hurt_only_themselves(start):
    server = await start()
    body = body_of(field("a", filename="a.jpg"), (FILE, PNG), field("image", b"%%%"))
    first, second, third = (await answer(server, body))["results"]
    assert first["error"]["detail"] == "The file a.jpg is empty."
    assert read(second["predictions"]) == scores_of(PNG)[:5]
    assert 'has "%" at character 1' in third["error"]["detail"]


@pytest.mark.parametrize("name", ["top_k", "min_score", "model", "format"])
@pytest.mark.parametrize("value", ["", " "])
async def test_an_empty_option_means_that_nothing_was_chosen(start, name, value):
    server = await start()
    form = body_of(field(name, value.encode()), (FILE, PNG))
    document = json.dumps({"inputs": TEXT, "parameters": {name: value}})
    beside = json.dumps({"inputs": TEXT, name: None})
    urlencoded = urlencode({name: value, "image": TEXT})
    for body, headers, path in [
        (form, FORM, "/classify"),
        (PNG, {}, f"/classify?{name}={quote(value)}"),
        (document, JSON, "/classify"),
        (beside, JSON, "/classify"),
        (urlencoded, URLENCODED, "/classify"),
    ]:
        assert read((await answer(server, body, headers, path))["predictions"]) == scores_of(PNG)[:5]


async def test_an_empty_option_of_the_query_leaves_that_of_the_form(start):
    server = await start()
    got = await answer(server, body_of(field("top_k", b"2"), (FILE, PNG)), path="/classify?top_k=")
    assert len(got["predictions"]) == 2


@pytest.mark.parametrize("spelling", ["topK", "top-k", "topk", "minScore", "Model"])
async def test_an_option_with_another_spelling_is_not_passed_over(start, spelling):
    server = await start()
    form = body_of(field(spelling, b"1"), (FILE, PNG))
    for body, headers, path in [(form, FORM, "/classify"), (PNG, {}, f"/classify?{spelling}=1")]:
        assert f'"{spelling}" in the ' in (await refusal(server, body, headers, path=path))["detail"]


async def test_an_option_with_two_values(start):
    server = await start()
    twice = body_of(field("top_k", b"1"), field("top_k", b"2"), (FILE, PNG))
    document = json.dumps({"inputs": TEXT, "top_k": 1, "parameters": {"top_k": 2}})
    doubled = json.dumps({"inputs": TEXT, "top_k": 1}).replace("}", ', "top_k": 2}')
    for body, headers, path in [
        (twice, FORM, "/classify"),
        (PNG, {}, "/classify?top_k=1&top_k=2"),
        (document, JSON, "/classify"),
        (doubled, JSON, "/classify"),
    ]:
        problem = await refusal(server, body, headers, path=path)
        assert "has two values in the" in problem["detail"]


BROWSER_FORM = urlencode({"image": TEXT, "top_k": "1"})


@pytest.mark.parametrize(
    "body",
    [
        BROWSER_FORM,
        urlencode({"file": "data:image/png;base64," + TEXT, "top_k": "1"}),
        f"image={TEXT}&top_k=1",  # the plus signs of base64 not escaped
        f"top_k=1&image=data:image/png;base64,{TEXT}",
        urlencode({"image": "\r\n".join(textwrap.wrap(TEXT, 76)), "top_k": "1"}),
        urlencode({"photo": TEXT, "top_k": "1", "submit": "Send it"}),
        f"image={TEXT.rstrip('=')}&top_k=+1",
    ],
)
async def test_urlencoded_forms(start, body):
    server = await start()
    assert read((await answer(server, body, URLENCODED))["predictions"]) == scores_of(PNG)[:1]


def test_the_image_has_a_plus_sign_and_a_slash_in_its_base64():
    assert "+" in TEXT and "/" in TEXT


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("top_k=3", "holds no file"),
        ("image=@cat.jpg", 'The field "image" must be base64, but has "@" at character 1,'),
        ("image=", 'The field "image" is empty'),
    ],
)
async def test_what_is_wrong_with_a_urlencoded_form(start, body, words):
    server = await start()
    assert words in (await refusal(server, body, URLENCODED))["detail"]
    too_many = "&".join(["a=1"] * 100)
    assert "fields" in (await refusal(server, too_many, URLENCODED, 413))["detail"]


@pytest.mark.parametrize("headers", [URLENCODED, {"Content-Type": "text/plain"}, {}])
async def test_base64_as_the_whole_body(start, headers):
    server = await start()
    for body in (TEXT, LINES, "data:image/png;base64," + TEXT):
        assert read((await answer(server, body, headers))["predictions"]) == scores_of(PNG)[:5]


@pytest.mark.parametrize(
    ("document", "count"),
    [
        ({"inputs": TEXT, "top_k": 1}, 1),
        ({"inputs": TEXT, "parameters": {"top_k": 1}}, 1),
        ({"inputs": TEXT, "top_k": 1, "parameters": {"top_k": 1}}, 1),
        ({"inputs": TEXT, "top_k": "2", "parameters": {"top_k": ""}}, 2),
        ({"inputs": TEXT, "parameters": None}, 5),
        ({"inputs": LINES.decode()}, 5),
    ],
)
async def test_json_options_beside_the_inputs_and_in_parameters(start, document, count):
    server = await start()
    assert len((await answer(server, json.dumps(document), JSON))["predictions"]) == count


async def test_json_as_shells_and_editors_write_it(start):
    server = await start()
    as_typed = '\ufeff {"inputs": "' + LINES.decode() + '"}'  # a byte-order mark, line ends within the string
    for headers in (JSON, URLENCODED, {"Content-Type": "application/vnd.api+json"}):
        body = as_typed.encode() if headers is not JSON else as_typed.encode("utf-8")
        assert len((await answer(server, body, headers))["predictions"]) == 5


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"inputs": "x', "not valid JSON; it goes wrong at line 1, column 12"),
        ("[1]", "must be an object"),
        ('"x"', "must be an object"),
        ('{"instances": []}', '"instances" in the JSON is not known'),
        ('{"top_k": 3}', 'has no "inputs"'),
        ('{"inputs": {"b64": "x"}}', '"inputs" must be a base64 string, or a list'),
        ('{"inputs": ["x", 3]}', 'Number 2 in "inputs" must be'),
        ('{"inputs": []}', "an empty list"),
        ('{"inputs": ""}', '"inputs" is empty'),
        ('{"inputs": "AA%A"}', '"inputs" must be base64, but has "%" at character 3'),
        (
            '{"inputs": "AAAA", "topk": 3}',
            '"topk" in the JSON is not known; allowed are inputs',
        ),
        ('{"inputs": "AAAA", "parameters": {"topk": 3}}', '"topk" in "parameters" is not known'),
        ('{"inputs": "AAAA", "parameters": [1]}', '"parameters" must be an object'),
        ('{"inputs": "AAAA", "inputs": "AAAB"}', '"inputs" has two values'),
        (b'{"inputs": "\xff"}', "not UTF-8"),
        ('{"inputs": "AAAA", "top_k": ' + "9" * 5000 + "}", "a number or brackets"),
    ],
)
async def test_what_is_wrong_with_json_is_named(start, body, words):
    server = await start()
    assert words in (await refusal(server, body, JSON))["detail"]


async def test_a_broken_input_of_several_is_named_and_hurts_only_itself(start):
    server = await start()
    first, second = (await answer(server, json.dumps({"inputs": [TEXT, "AAAA*"]}), JSON))["results"]
    assert read(first["predictions"]) == scores_of(PNG)[:5]
    assert first["filename"] is second["filename"] is None
    assert second["error"]["detail"].startswith('Number 2 of "inputs" must be base64, but has "*" at character 5,')
