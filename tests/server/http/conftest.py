"""Both event loops, where the difference matters: what they do at the end of a connection is their own."""

from __future__ import annotations

import asyncio

import uvloop

BOTH = ("test_clients.py",)


def pytest_asyncio_loop_factories(item):
    loops = {"asyncio": asyncio.new_event_loop}
    return loops | {"uvloop": uvloop.new_event_loop} if item.path.name in BOTH else loops
