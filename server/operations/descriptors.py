"""File descriptors: the limit of a process, and how many connections it allows."""

from __future__ import annotations

import resource

# Descriptors that a worker holds or opens besides its connections: 40 to 60 for sockets, pipes and libraries, and
# the files that /metrics reads. Half of them where the limit is small.
RESERVED = 128
MOST_CONNECTIONS = 10_000  # of one worker unless asked for more; each takes about 20 KB


def raise_limit() -> None:
    """Raises the soft limit of this process and its children to the hard one, as Go's runtime does.

    The soft limit is often 1,024 for the sake of programs that call `select`, which the server does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def limit() -> int:
    """Most descriptors of this process, hence of each of its children."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def connections_within(descriptors: int) -> int:
    """Most connections of a process that may have so many descriptors."""
    return max(1, descriptors - min(RESERVED, descriptors // 2))
