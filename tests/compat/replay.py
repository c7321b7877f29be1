"""Sends the recorded requests again, in their order, and reduces the answers as the recorded ones were."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.compat import comparing
from tests.compat.recording import Exchange
from tests.compat.servers import Served
from tests.compat.wire import Answer, Connection, Request

_NO_ANSWER_S = 6.0  # where the recorder waited in vain
_ANSWER_S = 60.0
_ANY_ORDER = ("5 requests, batch 3",)  # which request came into which batch was chance
_UNRECORDED = {  # requests that the recording leaves out, before the exchange that shows their effect
    "describe jq": {"url": "probe.mar", "model_name": "jq"},
}
# What the server refuses to register is registered in a form that it takes, so that later answers can be compared.
_STAND_INS = {
    "register odd name": "url=probe.mar&model_name=a-b-c",
    "describe initerr": "url=initerr.mar",
    "register file url": "url=fileurl.mar",
}
_STAND_FOR = {'"a-b-c"': '"a b/c"', '"fileurl.mar"': '"file:///outside/fileurl.mar"'}  # in the answers
_AFTER_OTHERS = {  # group -> the order of a request that was sent when the ones before it were running or waiting
    "DELETE while a request runs": 1,
    "scale to 0 while requests run and wait": 2,
}


class Replay:
    """The exchanges of one server."""

    def __init__(self, served: Served, outside: Path) -> None:
        """Asks nothing yet. outside: folder that stands for `/outside`."""
        self._served = served
        self._outside = outside
        self._old_keys: Mapping[str, str] = {}

    async def run(self, exchanges: Sequence[Exchange]) -> dict[str, dict[str, Any]]:
        """Name -> our answer, reduced."""
        found: dict[str, dict[str, Any]] = {}
        for _, each in itertools.groupby(exchanges, lambda exchange: exchange.group):
            group = list(each)
            answers = await self._together(group)
            reduced = [
                comparing.answered(exchange, answer, self._replaced())
                for exchange, answer in zip(group, answers, strict=True)
            ]
            found.update(zip([exchange.name for exchange in group], in_order(group, reduced), strict=True))
            if group[0].name in _STAND_INS:
                await self._stand_in(_STAND_INS[group[0].name])
        return found

    async def _together(self, group: list[Exchange]) -> list[Answer]:
        first = group[0]
        if first.name in _UNRECORDED:
            body = json.dumps(_UNRECORDED[first.name]).encode()
            headers = {"Host": "127.0.0.1", "Content-Type": "application/json"}
            await self._served.ask("management", Request("POST", "/models", headers, body))
        if first.name == "client timeout ok":  # the recorder had waited until the worker was free
            await self._served.until_answered("clienttmo", b"batch")
        if first.name == "before expiry":  # starting may have taken longer than a key is valid
            await self._served.renew("management")
        if first.name == "after expiry":
            await self._until_expired()
        late = _AFTER_OTHERS.get(first.group, len(group))
        model = first.request.path.split("/")[-1]
        before = await self._served.requests_of(model) if late < len(group) else 0
        async with asyncio.TaskGroup() as tasks:
            running = []
            for order, each in enumerate(group):
                running.append(tasks.create_task(self._one(each)))
                if order < late < len(group):  # the first one runs, and the others wait behind it
                    await self._served.until_settled(model, order, before)
        return [task.result() for task in running]

    async def _stand_in(self, query: str) -> None:
        name = query.partition("&")[0].removeprefix("url=")
        if not (self._served.store / name).exists():
            (self._served.store / name).write_bytes((self._outside / name).read_bytes())
        await self._served.ask("management", Request("POST", f"/models?{query}", {"Host": "127.0.0.1"}))

    async def _one(self, exchange: Exchange) -> Answer:
        is_recorded = "status" not in exchange.recorded or exchange.recorded["status"] is not None
        async with Connection(self._served.ports[exchange.api], exchange.is_tls) as connection:
            connection.send(self._request(exchange))
            return await connection.answer(_ANSWER_S if is_recorded else _NO_ANSWER_S)

    def _request(self, exchange: Exchange) -> Request:
        request = exchange.request
        path = request.path.replace("/store", str(self._served.store)).replace("/outside", str(self._outside))
        headers = dict(request.headers)
        for name, value in headers.items():
            if name.lower() == "authorization" and "KEY" in value:
                headers[name] = value.replace("KEY", self._key(exchange))
        return dataclasses.replace(request, path=path, headers=headers)

    def _key(self, exchange: Exchange) -> str:
        keys = self._served.keys()
        name = exchange.name
        if name.startswith("old "):
            return self._old_keys[name.split()[1]]
        if name in ("token: inference", "token POST"):
            self._old_keys = keys
        own = "api" if exchange.request.path.startswith("/token") else exchange.api
        named = [kind for kind in keys if f"{kind} key" in name.lower() or f"{kind} token" in name.lower()]
        return keys[named[0] if named and not name.startswith("new ") else own]

    def _replaced(self) -> dict[str, str]:
        """Our text -> what the recorder wrote for it."""
        found = {str(self._served.store): "/store", str(self._outside): "/outside", **_STAND_FOR}
        if (self._served.folder / "key_file.json").exists():
            found |= dict.fromkeys(self._served.keys().values(), "KEY")
        return found

    async def _until_expired(self) -> None:
        keys = json.loads((self._served.folder / "key_file.json").read_text())
        end = datetime.fromisoformat(keys["management"]["expiration time"])
        await asyncio.sleep(max(0.0, (end - datetime.now(UTC)).total_seconds()) + 0.01)


def in_order(group: Sequence[Exchange], answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The answers of a group; sorted as the recorded ones where chance chose who got which."""
    if group[0].group not in _ANY_ORDER:
        return answers
    theirs = [str(comparing.recorded(exchange)) for exchange in group]
    places = sorted(range(len(group)), key=theirs.__getitem__)
    ranked = sorted(answers, key=str)
    return [answer for _, answer in sorted(zip(places, ranked, strict=True), key=lambda pair: pair[0])]
