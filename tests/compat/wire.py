"""HTTP as it is on the wire: requests that no client library would send, and answers with all that was sent."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Request:
    """One request.

    Attributes:
        method: any word.
        path: as it is sent, with the query.
        headers: names as they are sent; without Content-Length it is added where there is a body.
        body: sent after the headers.
        version: in the request line.
        raw: sent instead of all that.
        is_body_withheld: the headers announce the body, which is not sent.
    """

    method: str = "GET"
    path: str = "/"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    version: str = "HTTP/1.1"
    raw: bytes = b""
    is_body_withheld: bool = False

    def data(self) -> bytes:
        """All its bytes."""
        if self.raw:
            return self.raw
        headers = dict(self.headers)
        names = {name.lower() for name in headers}
        body = self.body
        if "transfer-encoding" in names:
            body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
        elif "content-length" not in names and (body or self.method in ("POST", "PUT", "PATCH")):
            headers["Content-Length"] = str(len(body))
        lines = [
            f"{self.method} {self.path} {self.version}",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        head = "\r\n".join([*lines, "", ""]).encode()
        return head if self.is_body_withheld else head + body


@dataclass(frozen=True)
class Answer:
    """One answer.

    Attributes:
        status: of the answer; None: there was none.
        reason: phrase of the status line.
        headers: names in lower case.
        body: without transfer encoding.
        chunks: of a chunked body.
    """

    status: int | None
    reason: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    chunks: tuple[bytes, ...] = ()


class Connection:
    """A connection that asks once; a context manager.

    `ask` is in two steps, so that several connections can be made before any request is sent.
    """

    def __init__(self, port: int, is_tls: bool = False) -> None:
        """Connects on entering. port: on 127.0.0.1; is_tls: whatever certificate it shows is taken."""
        self._port = port
        self._tls = unchecked() if is_tls else None

    async def __aenter__(self) -> Connection:
        self._reader, self._writer = await asyncio.open_connection(
            "127.0.0.1", self._port, ssl=self._tls, limit=2**24
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self._writer.close()

    def send(self, request: Request) -> None:
        """Sends a request."""
        self._method = request.method
        self._writer.write(request.data())

    async def answer(self, timeout_s: float) -> Answer:
        """The answer; one without a status when there is none in time, or the connection ends before."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._read()
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            return Answer(None)

    async def _read(self) -> Answer:
        while True:
            _, status, reason = (await self._line() + " ").split(" ", 2)
            headers = await self._headers()
            if status != "100":
                break
        body, chunks = b"", []
        if self._method != "HEAD" and status not in ("204", "304"):
            if headers.get("transfer-encoding") == "chunked":
                chunks = await self._chunks()
                body = b"".join(chunks)
            elif "content-length" in headers:
                body = await self._reader.readexactly(int(headers["content-length"]))
            else:
                body = await self._reader.read()
        return Answer(int(status), reason.strip(), headers, body, tuple(chunks))

    async def _line(self) -> str:
        return (await self._reader.readuntil(b"\r\n")).decode("latin-1")[:-2]

    async def _headers(self) -> dict[str, str]:
        headers = {}
        while line := await self._line():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        return headers

    async def _chunks(self) -> list[bytes]:
        chunks = []
        while size := int(await self._line(), 16):
            chunks.append(await self._reader.readexactly(size))
            await self._line()
        await self._line()
        return chunks


def unchecked() -> ssl.SSLContext:
    """TLS with whatever certificate the server shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


async def ask(port: int, request: Request, timeout_s: float = 60, is_tls: bool = False) -> Answer:
    """Sends one request on a connection of its own."""
    async with Connection(port, is_tls) as connection:
        connection.send(request)
        return await connection.answer(timeout_s)
