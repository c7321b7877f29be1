"""Copies of archives that URLs name, in the model store."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import aiohttp
from yarl import URL

from models.machine.locked_folder import LockedFolder, leave_folder, make_locked_folder, remove_leftovers

MOST_BYTES = 16 << 30
_TIMES = aiohttp.ClientTimeout(total=900, sock_connect=10, sock_read=30)
_PIECE = 1 << 20
_MOST_REDIRECTS = 5
_REDIRECTS = (301, 302, 303, 307, 308)
_PREFIX = ".snapserve-copy-"
_AT_ONCE = asyncio.Semaphore(2)


class CopyFailed(Exception):
    """What a URL names cannot be copied. The message is one line, for the log."""


async def copy_into(target: Path, url: str, is_allowed: Callable[[str], bool]) -> None:
    """Copies what a URL names; the file is there as a whole, or not at all.

    Args:
        target: the new file.
        url: of http, https or file.
        is_allowed: whether a URL that the first one redirects to may be read.

    Raises:
        CopyFailed: it is not there, too large or too slow, or the file is there.
    """
    pieces = _of_file(url) if url.lower().startswith("file:") else _of_server(url, is_allowed)
    try:
        async with _AT_ONCE, aclosing(pieces):
            await _write(target, pieces)
    except aiohttp.InvalidURL:  # its message has the URL, and a password in it
        raise CopyFailed("it is no URL that can be read") from None
    except (OSError, ValueError, TimeoutError, aiohttp.ClientError) as error:
        raise CopyFailed(f"{type(error).__name__}: {error}"[:300]) from None


async def _write(target: Path, pieces: AsyncGenerator[bytes, None]) -> None:
    """Raises CopyFailed, OSError."""
    folder = await asyncio.to_thread(_new_folder, target.parent)
    copy, size = folder.path / "copy", 0
    try:
        with copy.open("xb") as file:
            async for piece in pieces:
                size += len(piece)
                if size > MOST_BYTES:
                    raise CopyFailed(f"it has more than {MOST_BYTES:,} bytes")
                await asyncio.to_thread(file.write, piece)
        os.link(copy, target)  # unlike a rename it never replaces a file
    finally:
        await asyncio.to_thread(leave_folder, folder)


def _new_folder(parent: Path) -> LockedFolder:
    """Where a copy is written; what a process was copying when it was killed is removed."""
    remove_leftovers(parent, _PREFIX)
    return make_locked_folder(parent, _PREFIX)


async def _of_file(url: str) -> AsyncGenerator[bytes, None]:
    split = urlsplit(url)
    if split.netloc not in ("", "localhost"):
        raise CopyFailed("it is on another machine")
    path = Path(url2pathname(split.path))
    descriptor = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise CopyFailed("it is no file")
        while piece := await asyncio.to_thread(file.read, _PIECE):
            yield piece


async def _of_server(url: str, is_allowed: Callable[[str], bool]) -> AsyncGenerator[bytes, None]:
    address = URL(url)
    plain = {"Accept-Encoding": "identity"}  # an archive is as it is, and no bomb
    async with aiohttp.ClientSession(
        timeout=_TIMES, trust_env=True, headers=plain, auto_decompress=False
    ) as session:
        for _ in range(1 + _MOST_REDIRECTS):
            async with session.get(address, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    if response.status != 200:
                        raise CopyFailed(f"status {response.status}")
                    async for piece in response.content.iter_chunked(_PIECE):
                        yield piece
                    return
                address = response.url.join(URL(response.headers.get("Location", "")))
                if not is_allowed(str(address)):
                    raise CopyFailed("it redirects to a URL that is not allowed")
    raise CopyFailed(f"more than {_MOST_REDIRECTS} redirects")
