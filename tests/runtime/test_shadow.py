"""What a shadow takes, what it says, and that clients see nothing of it."""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
import weakref
from types import SimpleNamespace

import pytest

from runtime.inputs import Image
from runtime.outputs import Scores
from runtime.phases import PhaseClock
from runtime.shadow import Shadow, ShadowReport, ShadowRules
from tests.runtime.classifiers import OUTPUTS, WordModel, deployed, row_of


class Observer:
    def __init__(self):
        self.seen = []

    def compared(self, agreed, score_difference, primary_s, shadow_s):
        self.seen.append((agreed, round(score_difference, 6)))

    def dropped(self):
        self.seen.append("dropped")

    def failed(self):
        self.seen.append("failed")


def idle():
    return SimpleNamespace(waiting=0)


def answered(word, labels=OUTPUTS, seconds=0.25):
    """What a primary has answered: input, output, clock."""
    clock = PhaseClock(time.monotonic)
    clock.seconds = {"read": 9.0, "decode": seconds, "infer": seconds}
    return Image(word.encode()), Scores(row_of(word), labels), clock


def images(count, seed=0):
    source = random.Random(seed)
    return [f"{source.choice(OUTPUTS)} {source.uniform(0.4, 1):.3f}" for _ in range(count)]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def offer_all(shadow, words):
    for word in words:
        shadow.offer(*answered(word))
        await shadow.settled()


async def test_agreement_and_score_differences_are_those_of_an_offline_calculation():
    words = images(300)
    misread = {word: f"{random.Random(word).choice(OUTPUTS)} 0.6" for word in words[::3]}
    observer = Observer()
    async with deployed(WordModel(misread=misread)) as (deployment,):
        shadow = Shadow(deployment, idle(), ShadowRules(1.0), observer)
        await offer_all(shadow, words)
    pairs = [(row_of(word), row_of(misread.get(word, word))) for word in words]
    agreed = sum(ours.argmax() == theirs.argmax() for ours, theirs in pairs)
    differences = [abs(float(theirs[ours.argmax()]) - float(ours.max())) for ours, theirs in pairs]
    report = shadow.report()
    assert 200 < agreed < 300
    assert (report.compared, report.agreed, report.dropped, report.failed) == (300, agreed, 0, 0)
    assert report.score_difference_sum == pytest.approx(sum(differences), rel=1e-12)
    assert report.primary_s_sum == 300 * 0.5, "decode and infer; the upload is no matter of the version"
    assert report.shadow_s_sum > 0
    assert [each for each, _ in observer.seen].count(True) == agreed
    document = json.loads(json.dumps(report.to_json()))
    assert document["agreement"] == round(agreed / 300, 6)
    assert document["mean_score_difference"] == round(sum(differences) / 300, 6)
    assert document["mean_primary_ms"] == 500.0


@pytest.mark.parametrize(
    ("share", "offered", "taken"),
    [(0.1, 1000, 100), (0.3, 1000, 300), (1 / 3, 999, 333), (1, 50, 50), (0.001, 999, 0)],
)
async def test_a_share_is_exact_and_evenly_spread(share, offered, taken):
    async with deployed(WordModel()) as (deployment,):
        shadow = Shadow(deployment, idle(), ShadowRules(share, backlog=offered))
        steps = []
        for _ in range(offered):
            shadow.offer(*answered("cat 0.9"))
            steps.append(len(shadow._backlog))
        await shadow.settled()
        assert shadow.report().compared == taken
    assert all(abs(count - share * (number + 1)) < 1 for number, count in enumerate(steps))


class Primary:
    """`count` inputs wait; `asked` says how often somebody has looked."""

    def __init__(self):
        self.count, self.asked = 1, 0

    @property
    def waiting(self):
        self.asked += 1
        return self.count


async def test_it_waits_until_no_input_waits_for_the_primary():
    primary = Primary()
    async with deployed(WordModel()) as (deployment,):
        ran = len(deployment.model.engine.seen)
        shadow = Shadow(deployment, primary, ShadowRules(1.0))
        shadow.offer(*answered("cat 0.9"))
        shadow.offer(*answered("dog 0.9"))
        await until(lambda: primary.asked >= 3)
        assert (len(deployment.model.engine.seen), deployment.accepted) == (ran, 0)
        deployment.model.engine.on_batch = lambda: setattr(primary, "count", 1)
        primary.count = 0
        await until(lambda: shadow.report().compared)
        asked = primary.asked
        await until(lambda: primary.asked >= asked + 3)
        assert deployment.model.engine.seen[ran:] == ["cat 0.9"], "it asks before every input"
        await shadow.close()


async def test_clients_are_answered_while_the_shadow_hangs_or_fails():
    async with deployed(WordModel(), WordModel("new")) as (primary, new):
        new.model.engine.gate.clear()
        shadow = Shadow(new, idle(), ShadowRules(1.0, backlog=3))
        for word in images(20):
            clock = PhaseClock(time.monotonic)
            output = await primary.infer(Image(word.encode()), clock)
            shadow.offer(Image(word.encode()), output, clock)
            assert output.top(1)[0].label == OUTPUTS[int(row_of(word).argmax())]
        assert primary.accepted == 0
        assert new.accepted == 1, "one at a time"
        assert shadow.report().dropped == 20 - 1 - 3
        await shadow.close()
        assert shadow.report() == ShadowReport(1.0, dropped=20)
        assert new.accepted == 0


async def test_what_fails_in_the_shadow_is_counted_and_goes_no_further():
    observer = Observer()
    async with deployed(WordModel()) as (deployment,):
        shadow = Shadow(deployment, idle(), ShadowRules(1.0, timeout_s=0.05), observer)
        for word in ("damaged", "poison 1"):
            shadow.offer(Image(word.encode()), *answered("cat 0.9")[1:])
            await shadow.settled()
        deployment.model.engine.gate.clear()
        await offer_all(shadow, ["cat 0.9"])
        deployment.model.engine.gate.set()
        await offer_all(shadow, ["cat 0.9"])
        await deployment.close()
        await offer_all(shadow, ["cat 0.9"])
    assert observer.seen == ["failed", "failed", "failed", (True, 0.0), "failed"]
    assert (shadow.report().failed, shadow.report().compared) == (4, 1)


async def test_the_backlog_is_bounded_in_images_and_in_bytes():
    async with deployed(WordModel()) as (deployment,):
        deployment.model.engine.gate.clear()
        word, size = "cat 0.9", len("cat 0.9")
        shadow = Shadow(deployment, idle(), ShadowRules(1.0, backlog=100, backlog_bytes=3 * size))
        for _ in range(5):
            shadow.offer(*answered(word))
            await asyncio.sleep(0)
        assert shadow.report().dropped == 2, "the image that runs counts, too"
        deployment.model.engine.gate.set()
        await shadow.settled()
        for _ in range(3):
            shadow.offer(*answered(word))
        await shadow.settled()
        assert (shadow.report().compared, shadow.report().dropped) == (6, 2), "its bytes come back"


async def test_it_keeps_a_copy_of_the_image_and_nothing_else_of_the_request():
    async with deployed(WordModel()) as (deployment,):
        shadow = Shadow(deployment, SimpleNamespace(waiting=1), ShadowRules(1.0))
        body = bytearray(b"--boundary dog 0.9 boundary--")
        view = memoryview(body)[11:18]
        _, output, clock = answered("dog 0.9")
        shadow.offer(Image(view), output, clock)
        gone = weakref.ref(output.values)
        view.release()
        body[:] = b"x"  # raises BufferError while a view is left
        del output
        gc.collect()
        assert gone() is None, "the row is a view of its whole batch"
        shadow._primary.waiting = 0
        await shadow.settled()
        assert deployment.model.engine.seen[-1] == "dog 0.9"
        assert shadow.report().agreed == 1


@pytest.mark.parametrize(
    ("labels", "agreed", "difference"),
    [
        (("dog", "cat", "bird"), False, 0.9 - 0.05),  # of the label, at its own position
        (("fish", "cow", "ant"), False, 0.9),
        (("cat", "fish", "cow"), True, 0.0),
    ],
)
async def test_versions_are_compared_by_labels(labels, agreed, difference):
    observer = Observer()
    async with deployed(WordModel(labels=labels)) as (deployment,):
        await offer_all(Shadow(deployment, idle(), ShadowRules(1.0), observer), ["cat 0.9"])
    assert observer.seen == [(agreed, pytest.approx(difference, abs=1e-6))]


async def test_a_closed_shadow_takes_nothing_and_can_be_closed_again():
    async with deployed(WordModel()) as (deployment,):
        unused, shadow = (Shadow(deployment, idle(), ShadowRules(1.0)) for _ in range(2))
        await unused.settled()
        await unused.close()
        await offer_all(shadow, ["cat 0.9"])
        for _ in range(2):
            await shadow.close()
        shadow.offer(*answered("cat 0.9"))
        assert shadow.report().compared == 1
        assert len(asyncio.all_tasks()) == 1


async def test_what_is_no_image_or_no_scores_is_ignored():
    async with deployed(WordModel()) as (deployment,):
        shadow = Shadow(deployment, idle(), ShadowRules(1.0))
        given, output, clock = answered("cat 0.9")
        shadow.offer(3, output, clock)
        shadow.offer(given, "got 3", clock)
        await shadow.settled()
        assert shadow.report() == ShadowReport(1.0)
        assert shadow.report().to_json()["agreement"] is None


def test_the_reports_of_workers_add_up():
    one, two = ShadowReport(0.1, 4, 3, 2, 1, 0.5, 0.25, 0.75), ShadowReport(0.1, 6, 6, 0, 0, 0.5, 0.25, 0.25)
    assert one + two == ShadowReport(0.1, 10, 9, 2, 1, 1.0, 0.5, 1.0)


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="share of a shadow"):
        ShadowRules(share)
