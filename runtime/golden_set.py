"""A golden set: images with the labels that every version of a model has to give them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from models.bundles.paths import exists
from models.bundles.text import read_json
from models.errors import BundleError

FOLDER = "golden"  # in a bundle
LIST = "golden.json"
MOST_IMAGES = 1000
_MOST_BYTES = 32 << 20  # of an image


class GoldenSetError(BundleError):
    """A golden set that cannot be used with this model. The message is one line."""


@dataclass(frozen=True)
class GoldenImage:
    """An image that is not read yet.

    Attributes:
        name: its path inside the folder, as it is shown.
        file: in which it is.
        label: that is expected.
    """

    name: str
    file: Path
    label: str

    def read(self) -> bytes:
        """The file's bytes. Raises GoldenSetError: it cannot be read, or is too large."""
        try:
            with self.file.open("rb") as stream:
                data = stream.read(_MOST_BYTES + 1)
        except OSError:
            raise GoldenSetError(f"golden image {self.name} cannot be read") from None
        if len(data) > _MOST_BYTES:
            raise GoldenSetError(f"golden image {self.name} is larger than {_MOST_BYTES >> 20} MiB")
        return data


@dataclass(frozen=True)
class GoldenSet:
    """Images and their labels, at least one. They are read when they are checked.

    Attributes:
        folder: in which they lie.
        images: in the order of their names.
    """

    folder: Path
    images: Sequence[GoldenImage]

    @classmethod
    def of_bundle(cls, bundle: Path) -> GoldenSet | None:
        """The folder `golden` of a bundle, if it has one. Raises GoldenSetError."""
        folder = bundle / FOLDER
        if not os.path.lexists(folder):
            return None
        if folder.is_symlink():
            raise GoldenSetError(f"{folder}: must be a folder inside the bundle, not a link")
        return cls.read(folder)

    @classmethod
    def read(cls, folder: Path) -> GoldenSet:
        """Finds the images of a folder; does not open them.

        `golden.json`, if there is one, is an object from file to label; otherwise there is a sub-folder per label.
        Hidden files are skipped.

        Raises:
            GoldenSetError: there is no such folder, no image, more than `MOST_IMAGES`, or a file that is missing
                or outside the folder.
        """
        if not exists(folder) or not folder.is_dir():
            raise GoldenSetError(f"{folder}: there is no such folder")
        root = folder.resolve()
        is_listed = os.path.lexists(folder / LIST)
        images = list(islice(_listed(folder, root) if is_listed else _sorted_by_label(folder), MOST_IMAGES + 1))
        if not images:
            raise GoldenSetError(f"{folder}: no golden images; expected a sub-folder per label, or {LIST}")
        if len(images) > MOST_IMAGES:
            raise GoldenSetError(f"{folder}: more than {MOST_IMAGES:,} golden images")
        for each in images:
            _check_place(each.file, root, f"golden image {each.name}")
        return cls(folder, tuple(sorted(images, key=lambda image: image.name)))


def _listed(folder: Path, root: Path) -> Iterator[GoldenImage]:
    _check_place(folder / LIST, root, LIST)
    document = read_json(folder / LIST, "list of golden images")
    if not isinstance(document, dict) or not all(isinstance(label, str) for label in document.values()):
        raise GoldenSetError(f'{folder / LIST}: expected an object from file to label, {{"cat-3.jpg": "cat"}}')
    for name, label in document.items():
        yield GoldenImage(_shown(name), folder / name, _shown(label))


def _sorted_by_label(folder: Path) -> Iterator[GoldenImage]:
    """A file beside the sub-folders is no image."""
    for where, folders, names in os.walk(folder):
        folders[:] = [each for each in folders if not each.startswith(".")]
        label, *_ = *Path(where).relative_to(folder).parts, ""
        for name in folders:
            if (link := Path(where, name)).is_symlink():
                raise GoldenSetError(f"{link}: a link to a folder, which is not followed")
        for name in names if label else ():
            if not name.startswith("."):
                file = Path(where, name)
                yield GoldenImage(_shown(file.relative_to(folder).as_posix()), file, _shown(label))


def _check_place(file: Path, root: Path, what: str) -> None:
    """Raises GoldenSetError unless it is a file, also behind links, inside the folder `root`."""
    try:
        place = file.resolve(strict=True)
        is_inside, is_file = place.is_relative_to(root), place.is_file()
    except (OSError, ValueError, RuntimeError):  # a NUL; a loop of links
        is_inside, is_file = True, False
    if not is_inside:
        raise GoldenSetError(f"{what} leads outside of {root}")
    if not is_file:
        raise GoldenSetError(f"{what}: there is no such file")


def _shown(name: str) -> str:
    """A file name as text; one that is no Unicode can be written neither to a log nor into JSON."""
    return name.encode(errors="replace").decode()
