"""The files and folders of an archive, by what it says of them: checked before anything is unpacked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from models.archives.limits import ArchiveLimits
from models.errors import ArchiveError

_LONGEST_PART = 255  # bytes of one name, on every file system in use


@dataclass(frozen=True)
class Member:
    """A file or a folder.

    Attributes:
        name: as the archive has it.
        size: of a file in bytes, as the archive says.
        is_folder: it is no file.
        refusal: why this kind of member is refused: "is a link"; "" where it is not.
    """

    name: str
    size: int = 0
    is_folder: bool = False
    refusal: str = ""


Members = dict[str, Member]  # by path, names separated by "/"


def checked(members: Iterable[Member], packed: int, limits: ArchiveLimits) -> Members:
    """The members of an archive by their paths.

    Args:
        members: of the archive; no more of them are asked for than are allowed.
        packed: bytes of the archive's file.
        limits: of it.

    Raises:
        ArchiveError: one of them is refused, or all together; the message begins behind the archive's name.
    """
    found: Members = {}
    total, most = 0, limits.most_unpacked(packed)
    for member in members:
        if len(found) >= limits.members:
            raise ArchiveError(f"has more than {limits.members:,} files and folders")
        path = _path(member, limits)
        if path in found:
            raise ArchiveError(f"has two members of the name {shown(member.name)}")
        found[path] = member
        total += member.size
        if total > most:
            raise ArchiveError(f"would unpack to more than {most:,} bytes, the most for a file of {packed:,}")
    _check_folders(found)
    return found


def shown(name: str) -> str:
    """A member's name in a message: nothing that an archive says reaches a terminal as it is."""
    return ascii(name[:80])


def _path(member: Member, limits: ArchiveLimits) -> str:
    """Where a member belongs, below the folder of the archive. Raises ArchiveError."""
    name = member.name
    reason = member.refusal or _fault(name, limits)
    if reason:
        raise ArchiveError(f"the member {shown(name)} {reason}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if not parts:
        raise ArchiveError(f"the member {shown(name)} has no name")
    if len(parts) > limits.depth:
        raise ArchiveError(f"the member {shown(name)} lies in more than {limits.depth} folders")
    return "/".join(parts)


def _fault(name: str, limits: ArchiveLimits) -> str:
    if len(name) > limits.name:
        return f"has a name of more than {limits.name:,} characters"
    if name.startswith("/"):
        return "has an absolute path"
    if "\\" in name or not name.isprintable():
        return "has a name with a backslash or a control character"
    parts = name.split("/")
    if ".." in parts:
        return "leads out of the archive"
    try:
        is_long = any(len(part.encode()) > _LONGEST_PART for part in parts)
    except UnicodeEncodeError:
        return "has a name that is no text"
    return f"has a name of more than {_LONGEST_PART} bytes" if is_long else ""


def _check_folders(members: Members) -> None:
    """Raises ArchiveError where a file is the folder of another member."""
    for path, member in members.items():
        folder, _, _ = path.rpartition("/")
        while folder:
            if folder in members and not members[folder].is_folder:
                raise ArchiveError(f"the member {shown(member.name)} lies in a file")
            folder, _, _ = folder.rpartition("/")
