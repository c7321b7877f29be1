"""A file that gives little at once, and not more than it may."""

from __future__ import annotations

import io

import pytest

from models.archives.bounded import BoundedFile
from models.errors import ArchiveError


@pytest.mark.parametrize("pass_over", [lambda file: file.read(8), lambda file: file.seek(file.tell() + 8)])
def test_what_is_read_or_passed_over_is_counted(pass_over):
    file = BoundedFile(io.BytesIO(bytes(1000)), at_once=10, left=40)
    for _ in range(5):
        pass_over(file)
    assert (file.tell(), file.left) == (40, 0)
    with pytest.raises(ArchiveError, match="unpacks to more than it may"):
        pass_over(file)


@pytest.mark.parametrize("size", [-1, None, 11])
def test_little_is_read_at_once(size):
    file = BoundedFile(io.BytesIO(bytes(1000)), at_once=10)
    with pytest.raises(ArchiveError, match="more than 10 bytes"):
        file.read(size)
    file.seek(990)
    assert file.read(size) == bytes(10)
