"""A server of one thread that answers uploads like a classifier, as honestly as it is told to.

Started as a script: `python stand_in.py --port N [--lie-every N] [--refuse-every N] [--burn] [--die]`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys

# What the photos of the tests begin with decides about their class.
CLASSES = {b"first": (3, 0.75), b"second": (7, 0.5)}


def answer_to(body):
    """The class and score of the image that the form holds."""
    return next((known for mark, known in CLASSES.items() if mark in body), (1, 0.9))


class StandIn:
    """Counts requests, and answers every nth of them wrongly or with 503."""

    def __init__(self, lie_every=0, refuse_every=0):
        self.lie_every, self.refuse_every, self.count = lie_every, refuse_every, 0

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line for line in head.lower().split(b"\r\n") if b"content-length" in line)[15:])
                writer.write(self.response(await reader.readexactly(length)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    def response(self, body):
        self.count += 1
        index, score = answer_to(body)
        if self.lie_every and self.count % self.lie_every == 0:
            index += 1
        status = "503 Full" if self.refuse_every and self.count % self.refuse_every == 0 else "200 OK"
        text = json.dumps({"predictions": [{"label": f'a "{index}"', "score": score, "index": index}]})
        return f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--lie-every", type=int, default=0)
    parser.add_argument("--refuse-every", type=int, default=0)
    parser.add_argument("--burn", action="store_true", help="use the processor when idle")
    parser.add_argument("--die", action="store_true")
    options = parser.parse_args()
    if options.die:
        sys.exit("no such model")
    stand_in = StandIn(options.lie_every, options.refuse_every)
    async with await asyncio.start_server(stand_in.serve, "127.0.0.1", options.port) as server:
        if options.burn:
            while True:
                await asyncio.sleep(0)
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
