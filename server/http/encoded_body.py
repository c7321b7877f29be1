"""Bodies with a Content-Encoding, for dialects that take them."""

from __future__ import annotations

import zlib
from functools import partial
from typing import Any

from runtime.cpu_pool import CpuPool
from server.http.body import UploadMemory
from server.http.faults import BadRequest, BodyTooLarge

ENCODINGS = frozenset(("gzip", "deflate"))
_PIECE = 1 << 20  # bytes that are decompressed before the limits are looked at
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names of formats: https://zlib.net/manual.html#Advanced


async def decoded(
    body: bytearray, encoding: str, limit: int, memory: UploadMemory, cpu_pool: CpuPool, deadline: float
) -> bytearray:
    """Decompresses a body, piece by piece on the CPU pool.

    Args:
        body: counted in `memory`; given back, and the result counted in its place.
        encoding: the header Content-Encoding, one of `ENCODINGS` or "identity".
        limit: most bytes of the result.
        memory: of all bodies that are held.
        cpu_pool: where it is decompressed.
        deadline: of `time.monotonic()`.

    Raises:
        BadRequest: it is not what its encoding says.
        BodyTooLarge: it becomes larger than `limit`.
        OutOfUploadMemory: other bodies fill the memory.
        DeadlineExceeded: the deadline passed first.
    """
    if encoding.lower() == "identity":
        return body
    result, stream = bytearray(), zlib.decompressobj(_format(body, encoding.lower()))
    rest: bytes | bytearray = body
    try:
        while not stream.eof:
            piece = await cpu_pool.run(partial(_next, stream, rest), deadline)
            rest = stream.unconsumed_tail
            if not (piece or rest or stream.eof):
                raise BadRequest(f"The body ends before its {encoding} does.")
            memory.take(len(piece))
            result += piece
            if len(result) > limit:
                raise BodyTooLarge(f"The body has more than {limit:,} bytes without its {encoding}.", limit, None)
        if stream.unused_data:
            raise BadRequest(f"The body goes on behind the end of its {encoding}.")
    except BaseException:
        memory.give_back(len(result))
        raise
    finally:
        memory.give_back(len(body))
    return result


def _format(body: bytearray, encoding: str) -> int:
    """ "deflate" is zlib's format (RFC 9110, 8.4.1.2); some clients send it without its header."""
    if encoding == "gzip":
        return _GZIP
    has_header = len(body) >= 2 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
    return _ZLIB if has_header else _RAW


def _next(stream: Any, rest: bytes | bytearray) -> bytes:
    try:
        piece: bytes = stream.decompress(rest, _PIECE)
    except zlib.error:
        raise BadRequest("The body is not what its Content-Encoding says.") from None
    return piece
