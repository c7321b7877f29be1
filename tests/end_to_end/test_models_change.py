"""Models that come and go while two workers answer requests, and what is left when processes are killed."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from urllib.parse import urlsplit

import aiohttp
import pytest

from benchmark.harness.server import ROOT, ServerProcess
from benchmark.harness.store import DEMO, write_words
from snapserve.management import ManagementError, ModelManagement
from tests.end_to_end.workers import workers_of

DIGIT = next((ROOT / "images").glob("digit-7-*"))
OLD, NEW = "7", "seven"  # what version 1 and the others say of DIGIT
SWAPS, KILLS, CLIENTS = 5, 2, 4


class Managed:
    """A server of two workers with a model store; `start` starts it again with the same journal."""

    def __init__(self, folder):
        self.store = folder / "store"
        self.store.mkdir()
        write_words(self.store / "words")
        shutil.copytree(self.store / "words", self.store / "damaged")
        weights = self.store / "damaged" / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        self.token = folder / "token"
        self.token.write_text("the-token-of-these-tests")
        self.token.chmod(0o600)
        self.server = None

    def start(self):
        options = ("--workers", "2", "--model-store", str(self.store), "--management-port", "0")
        self.server = ServerProcess("--model", str(DEMO), *options, "--management-token-file", str(self.token))
        lines = self.server.process.stdout
        line = next(line for line in lines if line.startswith("models are managed on "))
        url = urlsplit(line.split()[4].rstrip(","))
        self.models = ModelManagement(url.hostname, url.port, self.token.read_text(), 60)
        return self

    def stop(self):
        if self.server:
            self.server.__exit__()

    def kill(self):
        """kill -9 of the supervisor; its workers end by themselves."""
        self.server.send(signal.SIGKILL)
        self.stop()

    def answers(self, count=8, path="/classify"):
        """What is said of DIGIT on so many connections, which are spread over both workers."""
        return asyncio.run(self._answers(count, path))

    async def _answers(self, count, path):
        async with aiohttp.ClientSession(
            self.server.url, connector=aiohttp.TCPConnector(force_close=True)
        ) as session:
            return {await label(session, path) for _ in range(count)}

    def served(self):
        """Default version and versions by worker, as the workers tell it."""
        versions = self.models.show("digits")["versions"]
        return [
            [
                (each["version"], told["default"])
                for each in versions
                for told in each["workers"]
                if told["worker"] == n
            ]
            for n in range(2)
        ]


async def label(session, path="/classify"):
    async with session.post(path, data=DIGIT.read_bytes()) as response:
        answer = await response.json()
        return answer["predictions"][0]["label"] if response.status == 200 else response.status


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    made = Managed(tmp_path_factory.mktemp("models"))
    yield made.start()
    made.stop()


@pytest.fixture(autouse=True)
def only_version_1(managed):
    """What a test has added is removed after it."""
    yield
    managed.models.set_default("digits", "1")
    for each in managed.models.show("digits")["versions"]:
        if each["version"] != "1":
            managed.models.remove("digits", each["version"])


def test_swaps_under_load_lose_no_request_and_take_effect_at_once(managed):
    async def ask(stop, seen):
        async with aiohttp.ClientSession(managed.server.url) as session:
            while not stop.is_set():
                seen.append(await label(session))

    async def scenario():
        stop, seen, after = asyncio.Event(), [], []
        clients = [asyncio.ensure_future(ask(stop, seen)) for _ in range(CLIENTS)]
        for number in range(2, SWAPS + 2):
            await asyncio.to_thread(managed.models.add, "digits", str(number), "words", default=True)
            after.append(await managed._answers(4, "/classify"))
            await asyncio.to_thread(managed.models.set_default, "digits", "1")
            after.append(await managed._answers(4, "/classify"))
            await asyncio.to_thread(managed.models.remove, "digits", str(number))
        stop.set()
        await asyncio.gather(*clients)
        return seen, after

    seen, after = asyncio.run(scenario())
    assert set(seen) == {OLD, NEW}, "nothing but 200, nothing but what one of the two says"
    assert after == [{NEW}, {OLD}] * SWAPS
    assert managed.served() == [[("1", True)]] * 2


def test_a_version_beside_the_default_is_served_by_its_name(managed):
    managed.models.add("digits", "2", "words")
    assert managed.answers() == {OLD}
    assert managed.answers(path="/classify?version=2") == {NEW}


def test_a_damaged_version_stays_out_with_the_reason_and_the_old_one_serves_on(managed):
    with pytest.raises(ManagementError, match=r"damaged/model\.safetensors: damaged") as refusal:
        managed.models.add("digits", "2", "damaged", default=True)
    assert (refusal.value.status, refusal.value.kind) == (422, "model-refused")
    assert managed.answers() == {OLD}
    assert managed.served() == [[("1", True)]] * 2


async def both_ready(managed):
    async with asyncio.timeout(120), aiohttp.ClientSession(managed.server.url) as session:
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get("/readyz") as response:
                    if (await response.json()).get("workers", {}).get("ready") == 2:
                        return
            await asyncio.sleep(0.05)


def test_a_worker_that_is_started_again_has_the_current_set(managed):
    managed.models.add("digits", "2", "words", default=True)
    victim = workers_of(managed.server)[0]
    victim.kill()
    asyncio.run(both_ready_again(managed, victim))
    assert managed.served() == [[("1", False), ("2", True)]] * 2
    assert managed.answers() == {NEW}


async def both_ready_again(managed, victim):
    while victim in workers_of(managed.server):
        await asyncio.sleep(0.02)
    await both_ready(managed)


def test_a_worker_that_is_killed_during_a_change_leaves_all_with_the_set_before_or_after(managed):
    async def scenario():
        change = asyncio.to_thread(managed.models.add, "digits", "2", "words", default=True)
        changing, victim = asyncio.ensure_future(change), workers_of(managed.server)[0]
        await asyncio.sleep(0.1)  # somewhere in the middle; every outcome is checked
        victim.kill()
        (outcome,) = await asyncio.gather(changing, return_exceptions=True)
        await both_ready_again(managed, victim)
        return outcome

    outcome = asyncio.run(scenario())
    if isinstance(outcome, ManagementError):
        assert outcome.kind == "change-failed"
    served = [[("1", True)]] if isinstance(outcome, ManagementError) else [[("1", False), ("2", True)]]
    assert managed.served() == served * 2


@pytest.mark.timeout(300)
def test_kill_9_in_the_middle_of_changes_brings_the_set_before_or_after_back(managed):
    for number in range(KILLS):
        managed.models.add("digits", "2", "words")

        async def scenario(delay_s=0.002 * 3**number):
            switching = asyncio.ensure_future(asyncio.to_thread(managed.models.set_default, "digits", "2"))
            await asyncio.sleep(delay_s)
            managed.kill()
            (outcome,) = await asyncio.gather(switching, return_exceptions=True)
            return outcome

        outcome = asyncio.run(scenario())
        managed.start()
        before, after = [("1", True), ("2", False)], [("1", False), ("2", True)]
        first, second = managed.served()
        assert first == second in (before, after)
        assert first == after or isinstance(outcome, ManagementError), "what was answered has lasted"
        assert managed.answers() == ({NEW} if first == after else {OLD})
        managed.models.set_default("digits", "1")
        managed.models.remove("digits", "2")


def test_a_damaged_journal_ends_the_start_with_a_line_that_names_it(tmp_path):
    damaged = Managed(tmp_path)
    (damaged.store / "models.json").write_text("{}")
    with ServerProcess("--model", str(DEMO), "--model-store", str(damaged.store), wait=False) as server:
        code, _ = server.end()
        assert code == 2
        assert "models.json: not a journal of models, or damaged" in server.stderr()
