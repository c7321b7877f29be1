"""What a model archive may hold."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ArchiveLimits:
    """Limits of an archive, in what it says of itself and in what is read of it.

    Attributes:
        members: most files and folders.
        unpacked: most bytes of all files together.
        ratio: most bytes that a byte of the packed file may become; what does not exceed `free` is not counted.
        free: bytes that any archive may become.
        text: longest manifest, YAML or label file, in bytes.
        name: longest path of a member, in characters.
        depth: most folders within each other.
    """

    members: int = 10_000
    unpacked: int = 64 << 30
    ratio: int = 100
    free: int = 64 << 20
    text: int = 4 << 20
    name: int = 1024
    depth: int = 32

    def most_unpacked(self, packed: int) -> int:
        """Bytes that a file of so many bytes may become."""
        return min(self.unpacked, max(self.free, self.ratio * packed))
