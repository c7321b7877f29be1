"""Label files in every form that people have them."""

from __future__ import annotations

import codecs
import json

import pytest

from models.bundles.labels import load_labels, write_labels
from models.errors import BundleError

CAT_DOG = ("cat", "dog")


@pytest.mark.parametrize(
    "content",
    [
        b"cat\ndog\n",
        b"cat\ndog",
        b"cat\r\ndog\r\n",
        b"cat\rdog\r",
        b"  cat \n\tdog\n\n\n",
        codecs.BOM_UTF8 + b"cat\ndog\n",
        codecs.BOM_UTF16_LE + "cat\r\ndog\r\n".encode("utf-16-le"),
        codecs.BOM_UTF16_BE + "cat\ndog".encode("utf-16-be"),
        codecs.BOM_UTF32_LE + "cat\ndog".encode("utf-32-le"),
        codecs.BOM_UTF32_BE + "cat\ndog".encode("utf-32-be"),
    ],
)
def test_text_with_one_label_a_line(tmp_path, content):
    (tmp_path / "labels.txt").write_bytes(content)
    assert load_labels(tmp_path / "labels.txt") == CAT_DOG


def test_a_label_may_hold_what_python_takes_for_line_ends(tmp_path):
    labels = ("a\x0bb", "c\u2028d", "e\x85f")
    (tmp_path / "labels.txt").write_text("\n".join(labels), encoding="utf-8")
    assert load_labels(tmp_path / "labels.txt") == labels


@pytest.mark.parametrize(
    "document",
    [
        ["cat", "dog"],
        {"0": "cat", "1": "dog"},
        {"1": "dog", "0": "cat"},
        {"cat": 0, "dog": 1},
        {"dog": 1, "cat": 0},
        {"cat": "0", "dog": "1"},
        {"0": ["n02124075", "cat"], "1": ["n02084071", "dog"]},
        [["n02124075", "cat"], ["n02084071", "dog"]],
        {"id2label": {"0": "cat", "1": "dog"}, "architectures": ["ResNetForImageClassification"]},
        {"label2id": {"cat": 0, "dog": 1}},
        {"labels": ["cat", "dog"]},
    ],
)
@pytest.mark.parametrize("name", ["labels.json", "labels.txt"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_json_in_every_form(tmp_path, document, name, mark):
    (tmp_path / name).write_bytes(mark + json.dumps(document).encode())
    assert load_labels(tmp_path / name) == CAT_DOG


def test_a_first_label_may_begin_like_json(tmp_path):
    (tmp_path / "labels.txt").write_text("[unknown]\ncat\n[other]\n")
    assert load_labels(tmp_path / "labels.txt") == ("[unknown]", "cat", "[other]")


def test_ten_and_more_class_numbers_are_sorted_as_numbers(tmp_path):
    labels = tuple(f"label {number}" for number in range(12))
    (tmp_path / "labels.json").write_text(json.dumps({str(n): label for n, label in enumerate(labels)}))
    assert load_labels(tmp_path / "labels.json") == labels


def test_labels_that_are_digits_are_told_by_the_type_of_the_numbers(tmp_path):
    file = tmp_path / "labels.json"
    file.write_text('{"0": "7", "1": "3"}')
    assert load_labels(file) == ("7", "3")
    file.write_text('{"7": 0, "3": 1}')
    assert load_labels(file) == ("7", "3")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("l.txt", b"", "holds no labels"),
        ("l.txt", b" \n\n", "holds no labels"),
        ("l.txt", b"cat\n\ndog\n", "line 2 is empty"),
        ("l.txt", b"cat\n\xff\xfe\n", "not UTF-8 text \\(byte 4\\)"),
        ("l.txt", "cat\ndog".encode("utf-16-le"), "UTF-16 without a byte order mark"),
        ("l.json", b"{", "not valid JSON, line 1"),
        ("l.json", b'["a", "\\ud800"]', "is no text"),
        ("l.json", b'{"' + b"9" * 5000 + b'": "a"}', "expected labels as"),
        ("l.json", b"{}", "expected labels as"),
        ("l.json", b"[]", "expected labels as"),
        ("l.json", b"5", "expected labels as"),
        ("l.json", b"[1, 2]", "the label 1 is no text"),
        ("l.json", b'["cat", ""]', 'the label "" is no text'),
        ("l.json", b'{"0": "cat", "2": "dog"}', "must be 0 to 1, 1 is missing"),
        ("l.json", b'{"cat": 1, "dog": 2}', "must be 0 to 1, 0 is missing"),
        ("l.json", b'{"cat": 0, "dog": 0}', "must be 0 to 1, 1 is missing"),
        ("l.json", b'{"cat": "animal"}', "expected labels as"),
        ("l.json", b'{"id2label": {"1": "cat"}}', "id2label: the class numbers"),
    ],
)
def test_what_holds_no_labels_is_refused_in_one_line(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BundleError, match=said) as caught:
        load_labels(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(BundleError, match="no readable label file"):
        load_labels(tmp_path / "nowhere.txt")


def test_what_is_written_is_read(tmp_path):
    labels = ("größe", "a, b", "\ufeffmark inside")
    write_labels(tmp_path / "labels.json", labels)
    assert load_labels(tmp_path / "labels.json") == labels
