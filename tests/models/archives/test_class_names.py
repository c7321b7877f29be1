"""The forms of `index_to_name.json`."""

from __future__ import annotations

import json

import pytest

from models.archives.class_names import FILE, labels_of, read_class_names
from models.archives.limits import ArchiveLimits
from models.errors import ArchiveError


def names_in(folder, document):
    (folder / "index_to_name.json").write_text(json.dumps(document))
    return labels_of(read_class_names(folder), 3)


@pytest.mark.parametrize(
    "document",
    [
        {"0": "cat", "1": "dog", "2": "owl"},
        {"0": ["n01", "cat"], "1": ["n02", "x", "dog"], "2": ["owl"]},
        ["cat", "dog", "owl"],
        {"object_type_names": ["cat", "dog", "owl"]},
        {"cat": 0, "dog": 1, "owl": 2},
    ],
)
def test_every_form_gives_the_same_labels(tmp_path, document):
    assert names_in(tmp_path, document) == ("cat", "dog", "owl")


def test_a_class_without_a_name_is_called_by_its_number(tmp_path):
    assert labels_of(read_class_names(tmp_path), 2) == ("0", "1")
    assert names_in(tmp_path, {"1": "dog", "700": "far"}) == ("0", "dog", "2")


@pytest.mark.parametrize("document", [7, "cat", {"0": 1.5}, {"0": []}, {"cat": "dog"}, {"0": None}, {"-1": "x"},
                                      {"0": "\ud800"}, {"\ud800": 0}])  # fmt: skip
def test_other_documents_are_refused(tmp_path, document):
    with pytest.raises(ArchiveError, match=r"index_to_name\.json: expected names of classes"):
        names_in(tmp_path, document)


def test_a_file_that_is_too_long_is_not_read_as_a_whole(tmp_path):
    (tmp_path / FILE).write_text("{}" + " " * ArchiveLimits.text)
    with pytest.raises(ArchiveError, match="longer than 4,194,304 bytes"):
        read_class_names(tmp_path)
