"""Long lists of numbers in pieces: the same document, and the same errors, as in one go."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from server.http import json_pieces
from server.http.json_pieces import loads_in_pieces

NUMBERS = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))
LEAVES = st.one_of(NUMBERS, st.text(max_size=10), st.booleans(), st.none(), st.lists(NUMBERS, max_size=20))
DOCUMENTS = st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner))


@pytest.fixture(autouse=True, scope="module")
def short_pieces():
    """Lists of some ten bytes are long ones here."""
    patch = pytest.MonkeyPatch()
    patch.setattr(json_pieces, "_LONG", 8)
    patch.setattr(json_pieces, "_PIECE", 5)
    yield
    patch.undo()


def outcome(load, text):
    """The document, or the place and the words of the error."""
    try:
        return repr(load(text))
    except orjson.JSONDecodeError as error:
        return error.lineno, error.colno, error.msg


@given(DOCUMENTS, st.sampled_from([0, orjson.OPT_INDENT_2]))
def test_any_document(document, option):
    text = orjson.dumps(document, option=option)
    assert repr(loads_in_pieces(text)) == repr(orjson.loads(text))


@given(st.text('[]{}",:\\ 1.5e-truefalsn\n', max_size=60))
@example('{"a": [1,2,3,4,5,6,7,8,], "b": 1}')
@example("[1,2,3,4,5,6,,7,8,9]")
@example("[,1,2,3,4,5,6,7,8,9]")
@example("[1,2,3,4,5,6,7,8,9,  ]")
@example("[          ]")
@example("[1,2,3,4,5,6,7,8,9")
@example('"[1,2,3,4,5,6,7,8,9,10]"')
@example('["\\"[1,2,3,4,5,6,7,8,9,10]", [1,2,3,4,5,6,7,8,9,10]]')
@example('{"[1,2,3,4,5,6,7,8,9,10]": [1,2,3,4,5,6,7,8,9,10]}')
@example('[1,2,3,4,5,6,7,8,9,10] "')
@example("[1,2,3,4,5,6,7 8,9,10]")
@example("[1,2,3,true,null,false]")
def test_any_text(text):
    data = text.encode()
    assert outcome(loads_in_pieces, data) == outcome(orjson.loads, data)
    assert outcome(loads_in_pieces, bytearray(data)) == outcome(orjson.loads, data)


def innermost(document):
    while isinstance(document[0], list):
        (document,) = document
    return document


def test_what_is_nested_as_deeply_as_orjson_allows():
    text = b"[" * 1000 + b"[1,2,3,4,5,6,7,8]" + b"]" * 1000
    assert orjson.dumps(innermost(loads_in_pieces(text))) == b"[1,2,3,4,5,6,7,8]"


def test_a_long_list_is_parsed_in_pieces(monkeypatch):
    pieces, loads = [], orjson.loads

    def watched(text):
        pieces.append(bytes(text))
        return loads(text)

    monkeypatch.setattr(json_pieces.orjson, "loads", watched)
    assert loads_in_pieces(b'{"value": [1,2,3,4,5,6,7,8]}') == {"value": [1, 2, 3, 4, 5, 6, 7, 8]}
    assert pieces[:-1] == [b"[1,2,3]", b"[4,5,6]", b"[7,8]"]
