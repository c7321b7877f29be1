"""Which images and labels a folder holds."""

from __future__ import annotations

import json
import os

import pytest

from models.errors import BundleError
from runtime import golden_set
from runtime.golden_set import GoldenSet, GoldenSetError


def write(folder, *names, data=b"cat 0.9"):
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    return folder


def pairs(golden):
    return [(image.name, image.label) for image in golden.images]


def test_a_sub_folder_names_the_label_of_its_images(tmp_path):
    write(tmp_path, "dog/2.jpg", "cat/1.jpg", "cat/more/3.png", "readme.txt", "cat/.hidden", ".git/x")
    assert pairs(GoldenSet.read(tmp_path)) == [
        ("cat/1.jpg", "cat"),
        ("cat/more/3.png", "cat"),
        ("dog/2.jpg", "dog"),
    ]


def test_a_list_names_them_where_a_label_is_no_folder_name(tmp_path):
    write(tmp_path, "b.jpg", "cat/a.jpg")
    (tmp_path / "golden.json").write_text(json.dumps({"cat/a.jpg": "either/or", "b.jpg": "dog"}))
    assert pairs(GoldenSet.read(tmp_path)) == [("b.jpg", "dog"), ("cat/a.jpg", "either/or")]


def test_a_bundle_may_have_one(tmp_path):
    assert GoldenSet.of_bundle(tmp_path) is None
    write(tmp_path, "golden/cat/1.jpg")
    assert pairs(GoldenSet.of_bundle(tmp_path)) == [("cat/1.jpg", "cat")]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "golden").symlink_to(tmp_path / "golden")
    with pytest.raises(GoldenSetError, match="not a link"):
        GoldenSet.of_bundle(tmp_path / "other")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("[]", "expected an object from file to label"),
        ('{"a.jpg": 3}', "expected an object from file to label"),
        ('{"a.jpg"', "not valid JSON, line 1"),
        ("{}", "no golden images"),
        ('{"b.jpg": "cat"}', "golden image b.jpg: there is no such file"),
        ('{"sub": "cat"}', "golden image sub: there is no such file"),
        ('{"../outside.jpg": "cat"}', "golden image ../outside.jpg leads outside of"),
        ('{"link.jpg": "cat"}', "golden image link.jpg leads outside of"),
        ('{"loop.jpg": "cat"}', "golden image loop.jpg: there is no such file"),
        ('{"a\\u0000.jpg": "cat"}', "there is no such file"),
        ('{"ABSOLUTE": "cat"}', "leads outside of"),
    ],
)
def test_what_is_no_list_of_files_inside_is_refused_in_one_line(tmp_path, document, told):
    folder, outside = tmp_path / "golden", tmp_path / "outside.jpg"
    write(tmp_path, "outside.jpg", "golden/a.jpg", "golden/sub/x.jpg")
    (folder / "link.jpg").symlink_to(outside)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    (folder / "golden.json").write_text(document.replace("ABSOLUTE", str(outside)))
    with pytest.raises(BundleError) as refusal:
        GoldenSet.read(folder)
    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("target", ["../outside.json", "nowhere"])
def test_a_list_outside_is_not_read(tmp_path, target):
    write(tmp_path, "outside.json", "golden/cat/1.jpg", data=b"{}")
    (tmp_path / "golden" / "golden.json").symlink_to(target)
    with pytest.raises(GoldenSetError, match=r"golden\.json(: there is no such file| leads outside of)"):
        GoldenSet.read(tmp_path / "golden")


def test_links_to_folders_are_refused_instead_of_left_out(tmp_path):
    write(tmp_path, "golden/cat/1.jpg", "dogs/1.jpg")
    (tmp_path / "golden" / "dog").symlink_to(tmp_path / "dogs")
    with pytest.raises(GoldenSetError, match="a link to a folder"):
        GoldenSet.read(tmp_path / "golden")


def test_no_folder_no_images_and_too_many_are_refused(tmp_path, monkeypatch):
    for folder in (tmp_path / "nowhere", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(GoldenSetError, match="no such folder"):
            GoldenSet.read(folder)
    write(tmp_path, "1.jpg")
    with pytest.raises(GoldenSetError, match="a sub-folder per label"):
        GoldenSet.read(tmp_path)
    monkeypatch.setattr(golden_set, "MOST_IMAGES", 3)
    assert len(GoldenSet.read(write(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/3.jpg")).images) == 3
    with pytest.raises(GoldenSetError, match="more than 3 golden images"):
        GoldenSet.read(write(tmp_path, "dog/4.jpg"))


def test_an_image_that_is_gone_or_too_large_is_named(tmp_path, monkeypatch):
    image = GoldenSet.read(write(tmp_path, "cat/1.jpg")).images[0]
    assert image.read() == b"cat 0.9"
    monkeypatch.setattr(golden_set, "_MOST_BYTES", 6)
    with pytest.raises(GoldenSetError, match=r"golden image cat/1\.jpg is larger than"):
        image.read()
    image.file.unlink()
    with pytest.raises(GoldenSetError, match=r"golden image cat/1\.jpg cannot be read"):
        image.read()


def test_a_name_that_is_no_unicode_can_be_shown(tmp_path):
    write(tmp_path, os.fsdecode(b"cat\xff/1.jpg"))
    assert pairs(GoldenSet.read(tmp_path)) == [("cat?/1.jpg", "cat?")]
