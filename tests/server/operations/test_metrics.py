"""A model's series come and go with it."""

from __future__ import annotations

from server.operations import metrics
from server.operations.metrics import SupervisorMetrics


async def test_a_model_that_was_removed_is_shown_no_longer_and_its_counts_stay(start, hash_bundle, noise):
    server = await start({"a": hash_bundle, "b": hash_bundle})
    async with server.post(noise(1), "/classify?model=b") as response:
        assert response.status == 200

    async def lines():
        async with server.session.get(server.url + "/metrics") as response:
            return (await response.text()).splitlines()

    assert any(line.startswith("snapserve_model_info{") and 'model="b"' in line for line in await lines())
    assert 'snapserve_queue_depth{model="b",version="1"} 0.0' in await lines()
    await server.service.context.store.remove("b", "1")
    after = await lines()
    of_b = [line.partition("{")[0] for line in after if 'model="b"' in line]
    assert not {"snapserve_model_info", "snapserve_queue_depth", "snapserve_pictures_accepted"} & set(of_b)
    assert 'snapserve_phase_seconds_count{model="b",phase="infer",version="1"} 1.0' in after
    assert any('model="a"' in line and line.startswith("snapserve_model_info{") for line in after)
    async with server.post(noise(1), "/classify?model=b") as response:
        assert response.status == 404
    async with server.post(noise(1), "/classify?model=a") as response:
        assert response.status == 200


async def test_loads_are_counted_those_of_the_start_too(start, hash_bundle):
    server = await start({"a": hash_bundle, "b": hash_bundle})
    await server.service.context.store.remove("b", "1")
    assert await server.metric("snapserve_model_loads_total") == 2
    assert await server.metric("snapserve_model_evictions_total") == 0, "nothing has taken its place"
    server.service.context.metrics.evicted()
    assert await server.metric("snapserve_model_evictions_total") == 1


async def test_dropped_log_lines_are_counted(start, monkeypatch):
    server = await start()
    for dropped in (3, 3, 8):
        monkeypatch.setattr(metrics, "dropped_lines", lambda dropped=dropped: dropped)
        assert await server.metric("snapserve_log_lines_dropped_total") == dropped


def test_the_supervisor_counts_its_own(monkeypatch):
    counted = SupervisorMetrics(None)
    monkeypatch.setattr(metrics, "dropped_lines", lambda: 5)
    for _ in range(2):
        counted.count_dropped_lines()
    assert counted._dropped_lines._counter._value.get() == 5
