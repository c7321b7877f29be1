"""The URL of an archive -> its path below the model store."""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from runtime.errors import UnknownModel
from runtime.folder import StoreFolder
from server.dialects.torchserve.management.copies import CopyFailed, copy_into
from server.dialects.torchserve.management.words import nothing_at
from server.dialects.torchserve.replies import refusal

log = logging.getLogger("snapserve")

_SCHEME = re.compile(r"(https?|file)://", re.IGNORECASE)
_LONGEST = 2048  # characters, which a pattern of --allowed-urls is compared with on the event loop
_CREDENTIALS = re.compile(r"(?<=://)[^/?#]*@")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", re.ASCII)


class Found(NamedTuple):
    """An archive in the model store.

    Attributes:
        path: below the model store.
        url: as it was named, without a user and a password, where that is another text than the path; else "".
        is_copy: it was copied into the store just now.
    """

    path: str
    url: str
    is_copy: bool = False


class Urls:
    """Finds archives: below the model store, and by URLs that are allowed."""

    def __init__(self, folder: StoreFolder | None, store: str, allowed: Sequence[str]) -> None:
        """Creates it.

        Args:
            folder: the model store; None without one.
            store: the model store as the options name it.
            allowed: regular expressions of URLs that may be copied from.
        """
        self._folder = folder
        self._roots = [folder.path, Path(store).absolute()] if folder else []
        self._allowed = [re.compile(each) for each in allowed]

    async def find(self, url: str) -> Found:
        """The archive that a client names. Raises Refusal."""
        if not url:
            raise refusal(404, "unknown-model", "ModelNotFoundException", "empty url")
        if len(url) > _LONGEST or not url.isprintable():
            raise nothing_at(ascii(url[:80]))
        if _leads_up(url):
            message = f"Relative path is not allowed in url: {url}"
            raise refusal(404, "unknown-model", "ModelNotFoundException", message)
        if self._folder is None:
            raise nothing_at(url)
        return await self._copied(url, self._folder) if _SCHEME.match(url) else self._local(url, self._folder)

    def _local(self, url: str, folder: StoreFolder) -> Found:
        text = url
        if url.startswith("/"):
            inside = [Path(url).relative_to(root) for root in self._roots if Path(url).is_relative_to(root)]
            text = inside[0].as_posix() if inside else ""
        try:
            folder.resolve(text)
        except UnknownModel:
            raise nothing_at(url) from None
        path = posixpath.normpath(text)
        return Found(path, "" if path == url else url)

    async def _copied(self, url: str, folder: StoreFolder) -> Found:
        if self._allowed and not self._is_allowed(url):
            message = f"Given URL {url} does not match any allowed URL(s)"
            raise refusal(404, "unknown-model", "ModelNotFoundException", message)
        name = posixpath.basename(urlsplit(url).path)
        if not _PLAIN_NAME.fullmatch(name):
            raise nothing_at(url)
        if (folder.path / name).exists():
            message = f"Model file already exists {name}"
            raise refusal(500, "version-taken", "InternalServerException", message)
        try:
            if not self._allowed:
                raise CopyFailed("--allowed-urls allows no URL")
            await copy_into(folder.path / name, url, self._is_allowed)
        except CopyFailed as error:
            log.warning("%s is not copied into the model store: %s", without_secrets(url)[:200], error)
            message = f"Failed to download archive from: {url}"
            raise refusal(400, "download-failed", "DownloadArchiveException", message) from None
        return Found(name, _CREDENTIALS.sub("", url), is_copy=True)

    def _is_allowed(self, url: str) -> bool:
        return any(each.fullmatch(url) for each in self._allowed)


def without_secrets(url: str) -> str:
    """A URL for the log: without user and password, and without its query, which may be a signature."""
    return _CREDENTIALS.sub("", url).partition("?")[0] if "://" in url else url


def _leads_up(url: str) -> bool:
    """Whether ".." is in a URL: also in escapes, which a client library or a server decodes after the patterns."""
    once = unquote(url)
    return any(".." in each for each in (url, once, unquote(once)))
