"""A model in service: prepare, batch, run, finish."""

from __future__ import annotations

import asyncio
import math
import time

import pytest

from batching import DeadlineExceeded, ItemFailed, QueueFull
from models.engines.base import EngineOptions
from runtime.batch_limit import BatchLimit
from runtime.cpu_pool import CpuPool
from runtime.deployment import Batching, Deployment
from runtime.errors import EngineStuck, ModelUnloaded, Overloaded
from runtime.phases import PhaseClock
from runtime.runner import ThreadRunner
from tests.runtime.fakes import DoublerModel


class Observer:
    def __init__(self):
        self.answered, self.batches, self.failed = [], [], []

    def batch_ran(self, size, seconds):
        self.batches.append(size)

    def item_left(self):
        pass

    def item_answered(self, phases_s):
        self.answered.append(dict(phases_s))

    def item_failed(self, seconds):
        self.failed.append(seconds)


def clock():
    return PhaseClock(time.monotonic)


@pytest.fixture
async def deploy():
    pool, deployed = CpuPool(2), []

    async def start(model=None, observer=None, **batching):
        model = model or DoublerModel()
        runner = ThreadRunner(model, EngineOptions())
        deployment = Deployment(model, runner, pool, Batching(**{"max_batch_size": 8, **batching}), observer)
        deployed.append(deployment)
        await deployment.start()
        return deployment

    yield start
    for each in deployed:
        each.model.engine.gate.set()
        await each.close()
    pool.close()


async def test_an_input_is_prepared_on_the_pool_run_on_the_runner_and_finished(deploy):
    observer = Observer()
    deployment = await deploy(observer=observer)
    watch = clock()
    assert await deployment.infer(20, watch) == "got 42"
    assert watch.batch_size == 1
    assert list(watch.seconds) == ["decode", "queue", "infer"]
    model = deployment.model
    assert all(name.startswith("cpu-") for name in model.prepared)
    assert model.engine.batches == [[1], [21]], "the example warms up the same way"
    assert len(observer.answered) == 1, "the warm-up is no client's"
    assert observer.batches == [1, 1]


async def test_inputs_that_come_together_share_a_batch(deploy):
    deployment = await deploy()
    deployment.model.engine.gate.clear()
    first = asyncio.ensure_future(deployment.infer(1, clock()))
    while deployment.batcher.batches_in_flight == 0:
        await asyncio.sleep(0.001)
    watches = [clock() for _ in range(3)]
    others = [asyncio.ensure_future(deployment.infer(number, watch)) for number, watch in enumerate(watches)]
    while deployment.batcher.queued < 3:
        await asyncio.sleep(0.001)
    deployment.model.engine.gate.set()
    assert await asyncio.gather(first, *others) == ["got 4", "got 2", "got 4", "got 6"]
    assert [watch.batch_size for watch in watches] == [3, 3, 3]


async def test_no_more_are_accepted_than_the_limit_wherever_they_are(deploy):
    observer = Observer()
    deployment = await deploy(observer=observer, queue_limit=2)
    deployment.model.engine.gate.clear()
    waiting = [asyncio.ensure_future(deployment.infer(number, clock())) for number in range(2)]
    await asyncio.sleep(0)
    assert deployment.accepted == 2
    with pytest.raises(QueueFull):
        deployment.admit()
    with pytest.raises(QueueFull):
        await deployment.infer(3, clock())
    assert len(observer.failed) == 2
    deployment.model.engine.gate.set()
    await asyncio.gather(*waiting)
    assert deployment.accepted == 0
    deployment.admit()


async def test_what_cannot_be_prepared_or_run_fails_alone_and_frees_its_place(deploy):
    observer = Observer()
    deployment = await deploy(observer=observer)
    answers = await asyncio.gather(
        *(deployment.infer(each, clock()) for each in (1, "broken", "poison", 2)), return_exceptions=True
    )
    assert (answers[0], answers[3]) == ("got 4", "got 6")
    assert isinstance(answers[1], ValueError)
    assert isinstance(answers[2], ItemFailed)
    assert isinstance(answers[2].__cause__, RuntimeError)
    assert (len(observer.answered), len(observer.failed)) == (2, 2)
    assert deployment.accepted == 0


async def test_a_deadline_that_passes_and_a_client_that_leaves_free_the_place(deploy):
    observer = Observer()
    deployment = await deploy(observer=observer)
    deployment.model.engine.gate.clear()
    with pytest.raises(DeadlineExceeded):
        await deployment.infer(1, clock(), time.monotonic() + 0.05)
    left = asyncio.ensure_future(deployment.infer(1, clock()))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.wait([left])
    assert deployment.accepted == 0 and len(observer.failed) == 2


async def test_a_closed_deployment_says_that_the_model_was_unloaded(deploy):
    deployment = await deploy()
    assert deployment.is_open
    await deployment.close()
    assert not deployment.is_open
    with pytest.raises(ModelUnloaded):
        await deployment.infer(1, clock())


def crowd(deployment, count, start_by=math.inf):
    return [asyncio.ensure_future(deployment.infer(number, clock(), None, start_by)) for number in range(count)]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def test_the_start_finds_out_how_long_a_batch_may_run(deploy):
    deployment = await deploy(target_latency_ms=0.0, limit=BatchLimit(None))
    assert deployment.runner.limit_s == 5.0, "the least: this engine takes no time"
    assert (await deploy(limit=BatchLimit(0.25))).runner.limit_s == 0.25


async def test_the_start_measures_one_item_and_a_full_batch_for_the_target(deploy):
    deployment = await deploy(target_latency_ms=0.0)
    assert [len(batch) for batch in deployment.model.engine.batches] == [1, 1, 1, 8, 8]
    assert deployment.admission.target_s == 1.0, "the least: this engine takes no time"
    assert (await deploy(target_latency_ms=250.0)).admission.target_s == 0.25
    assert (await deploy()).admission.target_s is None


async def test_a_request_that_would_come_too_late_is_refused_and_told_when_to_come_back(deploy):
    deployment = await deploy(max_batch_size=1, target_latency_ms=100.0)
    for _ in range(100):
        deployment.batcher.batch_time.add(1, 0.05)
    deployment.model.engine.gate.clear()
    assert deployment.admit() == math.inf, "nothing lies before it"
    waiting = crowd(deployment, 3)
    await until(lambda: deployment.batcher.queued == 2)
    with pytest.raises(Overloaded) as refusal:
        deployment.admit()
    assert refusal.value.retry_after_s >= 1
    deployment.model.engine.gate.set()
    await asyncio.gather(*waiting)
    assert deployment.admit() == math.inf


async def test_an_input_that_can_no_longer_be_in_time_costs_neither_preprocessing_nor_a_place(deploy):
    deployment = await deploy(max_batch_size=1, target_latency_ms=100.0)
    engine = deployment.model.engine
    prepared, ran = len(deployment.model.prepared), len(engine.batches)
    with pytest.raises(Overloaded):
        await deployment.infer(1, clock(), None, time.monotonic() - 0.001)
    assert len(deployment.model.prepared) == prepared
    engine.gate.clear()
    first = crowd(deployment, 1)
    await until(lambda: deployment.batcher.batches_in_flight == 1)
    late = crowd(deployment, 2, time.monotonic() + 0.02)
    assert all(isinstance(each, Overloaded) for each in await asyncio.gather(*late, return_exceptions=True))
    engine.gate.set()
    await asyncio.gather(*first)
    assert len(engine.batches) == ran + 1
    assert deployment.accepted == 0


async def test_the_images_of_one_request_do_not_refuse_each_other(deploy):
    deployment = await deploy(max_batch_size=1, target_latency_ms=100.0)
    for _ in range(100):
        deployment.batcher.batch_time.add(1, 0.05)
    finish_by = deployment.admit(50)
    answers = await asyncio.gather(*crowd(deployment, 50, finish_by))
    assert len(answers) == 50


async def test_the_forecast_counts_preprocessing_where_it_is_slower(deploy):
    deployment = await deploy(target_latency_ms=100.0)
    deployment._prepare_s, deployment._preparing = 0.2, 5
    assert deployment.forecast_s() == pytest.approx(6 * 0.2 / 2, rel=0.05), "two threads"


async def test_an_abandoned_deployment_refuses_all_at_once_although_its_engine_is_busy(deploy):
    deployment = await deploy(max_batch_size=1)
    deployment.model.engine.gate.clear()
    waiting = [asyncio.ensure_future(deployment.infer(n, clock())) for n in range(3)]
    while deployment.batcher.queued < 2 or deployment.runner.busy_since is None:
        await asyncio.sleep(0)
    deployment.abandon(lambda: EngineStuck(4.0))
    assert [type(each) for each in await asyncio.gather(*waiting, return_exceptions=True)] == [EngineStuck] * 3
    with pytest.raises(EngineStuck):
        deployment.admit()
    with pytest.raises(EngineStuck):
        await deployment.infer(4, clock())
    assert not deployment.is_open
    assert deployment.runner.busy_since is not None


async def test_an_input_waits_until_it_is_on_the_engine(deploy):
    deployment = await deploy(max_batch_size=1)
    deployment.model.engine.gate.clear()
    waiting = crowd(deployment, 3)
    await asyncio.sleep(0)
    assert deployment.waiting == 3, "on the CPU pool"
    await until(lambda: deployment.batcher.queued == 2)
    assert deployment.waiting == 2
    deployment.model.engine.gate.set()
    await asyncio.gather(*waiting)
    assert deployment.waiting == 0


async def test_the_audience_hears_of_each_input_before_its_client(deploy):
    heard = []

    class Audience:
        def answered(self, given, output, clock):
            heard.append((given, output, set(clock.seconds)))

        def failed(self, error):
            heard.append(error)

    deployment = await deploy()
    deployment.audience = Audience()
    assert await deployment.infer(1, PhaseClock(time.monotonic)) == "got 4"
    assert heard == [(1, "got 4", {"decode", "queue", "infer"})]
    with pytest.raises(ValueError, match="broken") as raised:
        await deployment.infer("broken", PhaseClock(time.monotonic))
    assert heard[1:] == [raised.value]
