"""TorchServe's metrics under their names, in their exact form, beside our own."""

from __future__ import annotations

import re

import pytest
from prometheus_client import values
from prometheus_client.parser import text_string_to_metric_families

from server.dialects.torchserve.exposition import exposition
from server.operations.metrics import Metrics
from server.operations.shared_metrics import SharedMetrics
from server.operations.torchserve_metrics import SPECS
from tests.conftest import flat
from tests.server.dialects.torchserve.conftest import error

LINE = re.compile(r'\w+\{(?:\w+="[^"\n]*",)+\} -?\d+\.\d+(?:e[+-]\d+)?')


def value(text, beginning):
    """The value of the line that begins so."""
    (found,) = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(beginning)]
    return float(found)


async def test_all_metrics_of_torchserve_are_named_and_prometheus_reads_them(server):
    await server.answer("/predictions/hash", flat(1))
    text = await server.show()
    for name, spec in SPECS.items():
        assert f"# HELP {name} Torchserve prometheus {spec.kind} metric with unit: {spec.unit}\n" in text
        assert f"# TYPE {name} {spec.kind}\n" in text
    theirs = [line for line in text.splitlines() if line.split("{")[0] in SPECS]
    assert len(theirs) > 12 and all(map(LINE.fullmatch, theirs))
    assert re.search(r'WorkerLoadTime\{WorkerName="W-9001-probe_1.0",Level="Host",', text)
    assert "snapserve_requests_total" in text, "ours are there, too"
    assert {"Requests2XX", "snapserve_requests"} <= {each.name for each in text_string_to_metric_families(text)}


async def test_responses_are_counted_by_their_class_on_all_ports(server):
    for path in ("/ping", "/ping", "/nothing"):
        await server.answer(path, method="GET")
    for code in (299, 404, 302, 500, 700):
        await server.answer("/predictions/probe", f"status:{code}", allow_redirects=False)
    text = await server.show("?name[]=Requests2XX&name[]=Requests4XX&name[]=Requests5XX")
    assert value(text, "Requests2XX{") == 3.0
    assert value(text, "Requests4XX{") == 2.0
    assert value(text, "Requests5XX{") == 3.0, "all that is neither"
    assert value(await server.show(), "Requests2XX{") == 4.0, "the answer before counts"


async def test_requests_of_a_model_are_counted_by_the_version_of_the_path(server):
    for path in ("/predictions/probe", "/v2/models/probe/infer", "/predictions/probe/1.0", "/predictions/none"):
        await server.answer(path, "status:200")
    await server.answer("/predictions/probe", "raise:raised")
    text = await server.show("?name[]=ts_inference_requests_total")
    counted = 'ts_inference_requests_total{model_name="probe",model_version="'
    assert value(text, counted + 'default"') == 3.0
    assert value(text, counted + '1.0"') == 1.0
    assert "none" not in text
    times = await server.show("?name[]=ts_inference_latency_microseconds&name[]=PredictionTime")
    assert value(times, 'ts_inference_latency_microseconds{model_name="probe",model_version="default"') > 0
    assert value(times, 'PredictionTime{ModelName="probe",Level="Model"') >= 0


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_the_filter_and_longer_paths(server, method):
    async with server.session.request(method, f"{server.metrics}/metrics/x?name[]=MemoryUsed") as response:
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        text = await response.text()
    assert value(text, "MemoryUsed{") > 1 and text.count("\n") == 3
    assert await server.show("?name[]=nothing") == ""
    ours = await server.show("?name[]=snapserve_batch_size")
    assert ours and all("snapserve_batch_size" in line for line in ours.splitlines())


async def test_other_addresses_of_the_metrics_port(server):
    async with server.session.get(f"{server.metrics}/ping") as response:
        message = "Requested resource is not found, please refer to API document."
        assert (response.status, await response.text()) == error(404, "ResourceNotFoundException", message)
    async with server.session.get(f"{server.metrics}/") as response:
        assert response.status == 405


async def test_in_log_mode_the_metrics_are_empty(serve):
    server = await serve(metrics_mode="log")
    assert await server.show() == ""


async def test_where_management_shares_the_port_of_inference_the_metrics_are_there_too(serve):
    server = await serve(management_address="127.0.0.1:0")
    given = server.running.service.context.config.torchserve
    assert (await server.answer("/metrics"))[0] == 404
    object.__setattr__(given, "management_address", given.inference_address)
    status, text = await server.answer("/metrics?name[]=Requests2XX")
    assert (status, value(text, "Requests2XX{")) == (200, 0.0)


def test_the_figures_of_several_workers_are_one(tmp_path, monkeypatch):
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "")  # what is set here is taken back after the test
    for name in ("MmapedDict", "ValueClass"):
        monkeypatch.setattr(values, name, getattr(values, name))
    for member, count in (("0", 2), ("1", 3), ("supervisor", 1)):
        metrics = Metrics(SharedMetrics(tmp_path, member), torchserve=True)
        for _ in range(count):
            metrics.torchserve.count_response(200)
        metrics.torchserve.set_handler_time("m", float(count))
    text = exposition(metrics.families(), dict.fromkeys(SPECS, 0.0), metrics.torchserve.hostname, ()).decode()
    assert value(text, "Requests2XX{") == 6.0
    assert value(text, 'HandlerTime{ModelName="m"') == 1.0, "the last one"
