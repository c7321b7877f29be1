"""The folder below which models are opened."""

from __future__ import annotations

import pytest

from runtime.errors import UnknownModel
from runtime.folder import StoreFolder


@pytest.fixture
def folder(tmp_path):
    store, outside = tmp_path / "store", tmp_path / "outside"
    for each in (store, store / "team", outside):
        each.mkdir()
    for file in (store / "a.pt", store / "team" / "b c.pt", outside / "secret.pt"):
        file.write_bytes(b"model")
    (store / "link-in.pt").symlink_to("a.pt")
    (store / "link-out.pt").symlink_to(outside / "secret.pt")
    (store / "folder-out").symlink_to(outside)
    (store / "circle").symlink_to("circle")
    return StoreFolder(store)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a.pt", "a.pt"),
        ("./a.pt", "a.pt"),
        ("team//b c.pt", "team/b c.pt"),
        ("link-in.pt", "a.pt"),
        ("team", "team"),
        ("a.pt/", "a.pt"),
    ],
)
def test_what_lies_in_it_is_found(folder, text, found):
    assert folder.resolve(text) == folder.path / found


@pytest.mark.parametrize(
    "text",
    [
        *("", ".", "/", "./", "missing.pt", "a.pt/b"),
        *("../outside/secret.pt", "team/../../outside/secret.pt", "team/../a.pt", ".."),
        *("link-out.pt", "folder-out/secret.pt", "folder-out", "circle"),
        *("~/a.pt", "a.pt\0", "a\n.pt", "team\\b", "..\\outside"),
        *("http://host/a.pt", "file:///a.pt", "file:a.pt", "c:a.pt"),
        *("a" * 256, "a/" * 600 + "a", "ü" * 200, "\ud800"),
    ],
)
def test_anything_else_is_unknown(folder, text):
    with pytest.raises(UnknownModel):
        folder.resolve(text)


def test_an_absolute_path_is_unknown_even_inside(folder):
    with pytest.raises(UnknownModel):
        folder.resolve(str(folder.path / "a.pt"))
