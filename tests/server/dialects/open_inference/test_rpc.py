"""The protocol over gRPC: typed and raw contents, what lies, deadlines, cancellation, streams, the drain."""

from __future__ import annotations

import asyncio
import filecmp
import os
import time
from importlib.util import find_spec

import grpc
import numpy as np
import pytest

from scripts.generate_grpc import PROTO, ROOT, generate
from server.config import Config, ConfigError, ServerConfig, TorchServeConfig
from server.dialects.open_inference.rpc import listener
from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.rpc.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub
from server.dialects.open_inference.rpc.service import InferenceService
from server.http.faults import Unauthorized
from server.operations.rpc_port import reserve_rpc_port, rpc_lines
from server.service import _rpc_listener
from tests.conftest import flat, lacking
from tests.engines import expected

pytestmark = pytest.mark.slow  # there are programs
GREY = flat(20)
SCORES = expected(np.full((8, 8, 3), 20, np.uint8), 10)


@pytest.fixture
def rpc(serve):
    """Starts a server with some programs: `server, stub, channel = await rpc("id")`."""
    channels, held = [], []

    async def run(*names, **options):
        config, socket = reserve_rpc_port(Config(server=ServerConfig(grpc_port="0")))
        held.append(socket)
        server = await serve(*names, grpc_port=config.server.grpc_port, **options)
        address = f"127.0.0.1:{config.server.grpc_port}"
        if "certificate_file" in options:
            trusted = grpc.ssl_channel_credentials(options["certificate_file"].read_bytes())
            channel = grpc.aio.secure_channel(address, trusted)
        else:
            channel = grpc.aio.insecure_channel(address)
        channels.append(channel)
        return server, GRPCInferenceServiceStub(channel), channel

    yield run
    for each in held:
        each.close()


def image(*data, model="hash", **members):
    """A request for images as typed contents."""
    contents = pb.InferTensorContents(bytes_contents=data)
    given = pb.ModelInferRequest.InferInputTensor(
        name="image", datatype="BYTES", shape=[len(data)], contents=contents
    )
    return pb.ModelInferRequest(model_name=model, inputs=[given], **members)


def numbers(datatype, raw=None, shape=(1, 2), **contents):
    """A request to `id` with one tensor."""
    given = pb.ModelInferRequest.InferInputTensor(name="x", datatype=datatype, shape=shape)
    if contents:
        given.contents.CopyFrom(pb.InferTensorContents(**contents))
    return pb.ModelInferRequest(model_name="id", inputs=[given], raw_input_contents=[] if raw is None else [raw])


async def error_of(call):
    """Status and text of a call that has to fail."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call
    return raised.value.code(), raised.value.details()


async def test_typed_contents_of_every_datatype(rpc):
    _, stub, channel = await rpc("id")
    answer = await stub.ModelInfer(image(GREY, GREY, id="7"))
    assert (answer.id, answer.model_name, answer.model_version) == ("7", "hash", "1")
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(2, 10), [SCORES, SCORES])
    for datatype, field, dtype in [
        ("BOOL", "bool_contents", "?"),
        ("UINT8", "uint_contents", "u1"),
        ("INT16", "int_contents", "<i2"),
        ("INT32", "int_contents", "<i4"),
        ("INT64", "int64_contents", "<i8"),
        ("UINT64", "uint64_contents", "<u8"),
        ("FP32", "fp32_contents", "<f4"),
        ("FP64", "fp64_contents", "<f8"),
    ]:
        answer = await stub.ModelInfer(numbers(datatype, **{field: [1, 0]}))
        assert answer.raw_output_contents[0] == np.array([1, 0], dtype).tobytes(), datatype
    for datatype in ("FP16", "BF16"):
        answer = await stub.ModelInfer(numbers(datatype, b"\0\x3c\0\0"))
        assert (answer.raw_output_contents[0], answer.outputs[0].datatype) == (b"\0\x3c\0\0", datatype)
    await channel.close()


async def test_what_lies_is_an_invalid_argument(rpc):
    server, stub, channel = await rpc("id", max_body_mb=1.0)
    twice = numbers("FP32", bytes(8))
    twice.raw_input_contents.append(b"")
    both = numbers("FP32", bytes(8), fp32_contents=[1, 2])
    for request, text in [
        (pb.ModelInferRequest(model_name="id"), "no input"),
        (numbers("FP32", bytes(7)), "takes 8 bytes, 7 were sent"),
        (numbers("FP32", bytes(8), (-1, 2)), "whole numbers from 0"),
        (numbers("FP32", b"", (1 << 40, 0)), "more than"),
        (numbers("FP32", b"", (1 << 62, 1 << 62)), "more than"),
        (numbers("FP32", b"", [1] * 65), "64 dimensions"),
        (numbers("FP8", bytes(2)), "'datatype' must be one of"),
        (numbers("FP16", fp32_contents=[1, 2]), "sent as raw contents"),
        (numbers("FP32", int_contents=[1, 2]), "in fp32_contents, not in int_contents"),
        (numbers("INT8", int_contents=[1, 128]), "out of range for INT8"),
        (numbers("FP32", fp32_contents=[1]), "has 2 elements, 1 were sent"),
        (numbers("BYTES", b"\xff\xff\xff\xff", (1,)), "end within element 0"),
        (both, "has contents, and there are raw contents"),
        (twice, "2 raw contents"),
        (image(b"GIF89a"), "GIF"),
        (image(GREY, b""), "Image 1 of the request"),
        (image(GREY, outputs=[pb.ModelInferRequest.InferRequestedOutputTensor(name="OUT")]), "'OUT' is unknown"),
    ]:
        status, details = await error_of(stub.ModelInfer(request))
        assert status == grpc.StatusCode.INVALID_ARGUMENT and text in details, (text, details)
    assert (await error_of(stub.ModelInfer(image(GREY, model="no"))))[0] == grpc.StatusCode.NOT_FOUND
    version = image(GREY, model_version="2")
    assert (await error_of(stub.ModelInfer(version)))[0] == grpc.StatusCode.NOT_FOUND
    large = await error_of(stub.ModelInfer(image(bytes(2_000_000))))
    assert large[0] == grpc.StatusCode.RESOURCE_EXHAUSTED
    infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
    assert (await error_of(infer(b"\xff\xff\xff")))[0] in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    name = infer(b"\x0a\x02\xff\xfe")  # a name that is no UTF-8
    assert (await error_of(name))[0] in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
    assert np.array_equal(
        np.frombuffer((await stub.ModelInfer(image(GREY))).raw_output_contents[0], "<f4"), SCORES
    )
    statistics = await stub.ModelStatistics(pb.ModelStatisticsRequest(name="hash"))
    times = statistics.model_stats[0].inference_stats
    assert (times.success.count, times.fail.count) == (2, 1) and times.fail.ns > 0, "no image is in an empty text"
    assert server.service.context.bodies.memory.used == server.service.context.in_flight == 0
    await channel.close()


async def test_an_error_of_the_server_tells_nothing_of_it(rpc, caplog):
    _, stub, channel = await rpc()
    status, details = await error_of(stub.ModelInfer(image(flat(77))))
    assert status == grpc.StatusCode.INTERNAL and "secret" not in details
    assert "engine secret" in caplog.text
    await channel.close()


async def test_a_deadline_passes_and_a_client_that_cancels_frees_its_place(rpc):
    server, stub, channel = await rpc()
    deployment = server.service.context.store.find("hash")
    server.engine.gate.clear()
    held = asyncio.ensure_future(_call(stub, flat(1)))
    while not deployment.batcher.batches_in_flight:
        await asyncio.sleep(0.001)
    status, _ = await error_of(stub.ModelInfer(image(flat(2)), timeout=0.05))
    assert status == grpc.StatusCode.DEADLINE_EXCEEDED
    left = stub.ModelInfer(image(flat(3)))
    waiting = asyncio.ensure_future(_awaited(left))
    while not deployment.batcher.queued:
        await asyncio.sleep(0.001)
    left.cancel()
    await asyncio.wait([waiting])
    while deployment.batcher.queued or deployment.accepted > 1:
        await asyncio.sleep(0.001)
    server.engine.gate.set()
    assert (await held).model_name == "hash"
    assert await server.metric('snapserve_requests_total{outcome="client-left"}') >= 1
    await channel.close()


async def test_the_deadline_of_a_call_is_that_of_its_inference(rpc, monkeypatch):
    server, stub, channel = await rpc(request_timeout_ms=60_000)
    deployment = server.service.context.store.find("hash")
    left, admit = [], deployment.admit

    def note(count, deadline, *rest):
        left.append(deadline - time.monotonic())
        return admit(count, deadline, *rest)

    monkeypatch.setattr(deployment, "admit", note)
    for timeout in (20, 1000, None):
        await stub.ModelInfer(image(GREY), timeout=timeout)
    assert [10 < each <= limit for each, limit in zip(left, (20, 20, 60, 60, 60, 60), strict=True)] == [True] * 6
    await channel.close()


async def _awaited(call):
    return await call


async def _call(stub, data):
    return await stub.ModelInfer(image(data))


async def test_a_stream_goes_on_after_an_error_and_ends_when_the_server_drains(rpc):
    server, stub, channel = await rpc()
    stream = stub.ModelStreamInfer()
    for number, data in enumerate((GREY, b"GIF89a", GREY)):
        await stream.write(image(data, id=str(number)))
    answers = [await stream.read() for _ in range(3)]
    assert [each.infer_response.id for each in answers] == ["0", "1", "2"]
    assert [bool(each.error_message) for each in answers] == [False, True, False]
    assert "GIF" in answers[1].error_message
    await asyncio.wait_for(server.service.drain(), 8)
    assert await stream.read() == grpc.aio.EOF
    assert (await error_of(_call(stub, GREY)))[0] == grpc.StatusCode.UNAVAILABLE
    await channel.close()


async def test_connections_are_renewed_and_no_call_is_lost(rpc, monkeypatch):
    clients, live = set(), InferenceService.ServerLive

    async def noting(self, request, call):
        clients.add(call.peer())
        return await live(self, request, call)

    monkeypatch.setattr(listener, "_CONNECTION_AGE_MS", 50)
    monkeypatch.setattr(InferenceService, "ServerLive", noting)
    _, stub, channel = await rpc()
    stream = stub.ModelStreamInfer()
    await stream.write(image(GREY, id="0"))
    assert (await stream.read()).infer_response.id == "0"
    async with asyncio.timeout(30):
        while len(clients) < 3:
            assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    await stream.write(image(GREY, id="1"))
    assert (await stream.read()).infer_response.id == "1", "a stream keeps its connection"
    await stream.done_writing()
    assert await stream.read() == grpc.aio.EOF
    await channel.close()


async def test_the_drain_answers_what_runs(rpc):
    server, stub, channel = await rpc()
    deployment = server.service.context.store.find("hash")
    server.engine.gate.clear()
    running = asyncio.ensure_future(_call(stub, GREY))
    while not deployment.batcher.batches_in_flight:
        await asyncio.sleep(0.001)
    draining = asyncio.ensure_future(server.service.drain())
    while not server.service.context.draining:
        await asyncio.sleep(0.001)
    server.engine.gate.set()
    assert (await running).model_name == "hash" and await draining == 0
    await channel.close()


async def test_health_says_what_requests_would_meet(rpc):
    server, stub, channel = await rpc("id")
    assert (await stub.ServerLive(pb.ServerLiveRequest())).live
    assert (await stub.ServerReady(pb.ServerReadyRequest())).ready
    assert (await stub.ModelReady(pb.ModelReadyRequest(name="id"))).ready
    assert not (await stub.ModelReady(pb.ModelReadyRequest(name="id", version="2"))).ready
    server.service.context.leaving = True
    assert not (await stub.ServerReady(pb.ServerReadyRequest())).ready
    await channel.close()


async def test_with_a_certificate_the_port_speaks_tls_alone(rpc, certificate):
    server, stub, channel = await rpc(**certificate)
    address = f"127.0.0.1:{server.service.context.config.server.grpc_port}"
    async with grpc.aio.insecure_channel(address) as plain:
        status, _ = await error_of(_awaited(GRPCInferenceServiceStub(plain).ModelInfer(image(GREY), timeout=20)))
    assert status == grpc.StatusCode.UNAVAILABLE
    assert (await stub.ModelInfer(image(GREY))).model_name == "hash"
    await channel.close()


def test_a_certificate_that_cannot_be_is_told_at_the_start(certificate, tmp_path):
    (tmp_path / "no.pem").write_text("no")
    torchserve = TorchServeConfig(**{**certificate, "certificate_file": tmp_path / "no.pem"})
    with pytest.raises(ConfigError, match=r"--certificate-file .*no\.pem"):
        reserve_rpc_port(Config(server=ServerConfig(grpc_port="0"), torchserve=torchserve))
    served = Config(server=ServerConfig(grpc_port="8001"), torchserve=TorchServeConfig(**certificate))
    assert rpc_lines(served) == ["  Open Inference over gRPC with TLS on 127.0.0.1:8001"]


def test_a_port_that_is_taken_is_told_at_the_start():
    _, held = reserve_rpc_port(Config(server=ServerConfig(grpc_port="0")))
    with held:
        held.listen()
        port = str(held.getsockname()[1])
        with pytest.raises(ConfigError, match=f"--grpc-port {port}: is in use"):
            reserve_rpc_port(Config(server=ServerConfig(grpc_port=port)))


def test_without_grpc_the_option_says_what_to_install(monkeypatch):
    monkeypatch.setattr("server.operations.rpc_port.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'snapserve\[grpc\]'"):
        reserve_rpc_port(Config(server=ServerConfig(grpc_port="0")))


def test_the_generated_code_is_that_of_the_proto_file(tmp_path):
    if find_spec("grpc_tools") is None:
        lacking("grpcio-tools is not installed")
    assert generate(tmp_path) == 0
    made = sorted((tmp_path / PROTO.parent).iterdir())
    assert len(made) == 3
    for each in made:
        assert filecmp.cmp(each, ROOT / PROTO.parent / each.name, shallow=False), each.name


async def test_a_message_of_many_parts_is_refused_before_it_is_parsed(rpc):
    """An empty input has two bytes and takes 90 in memory: 64 MB of them would hold the event loop for seconds."""
    _, stub, _ = await rpc("id")
    empty = pb.ModelInferRequest.InferInputTensor()
    many = pb.ModelInferRequest(model_name="id", inputs=[empty] * 30_000)
    digits = numbers("BOOL", shape=(2_000_001,), bool_contents=[True] * 2_000_001)
    for message, text in (
        (many, "more than 20,000 parts"),
        (digits, "more than 2,000,000 bytes of typed numbers"),
    ):
        status, said = await error_of(stub.ModelInfer(message))
        assert status == grpc.StatusCode.INVALID_ARGUMENT and text in said
    answers = [each async for each in stub.ModelStreamInfer(iter([many, numbers("FP32", bytes(8))]))]
    assert "more than 20,000 parts" in answers[0].error_message
    assert answers[1].infer_response.raw_output_contents == [bytes(8)]
    load = pb.RepositoryModelLoadRequest(model_name="x" * 100_001)
    status, said = await error_of(stub.RepositoryModelLoad(load))
    assert status == grpc.StatusCode.INVALID_ARGUMENT and "at most 100,000" in said


async def test_a_model_that_wants_a_key_finds_it_in_the_metadata(rpc):
    server, stub, _ = await rpc("id")

    def check_key(name, version, authorization):
        if name == "id" and authorization != "Bearer key":
            raise Unauthorized("no key")

    server.service.context.check_key = check_key
    request = numbers("FP32", bytes(8))
    load = pb.RepositoryModelLoadRequest(model_name="id")
    for metadata in ((), (("authorization", "Bearer other"),)):
        for call in (
            stub.ModelInfer(request, metadata=metadata),
            stub.RepositoryModelLoad(load, metadata=metadata),
        ):
            assert (await error_of(call))[0] == grpc.StatusCode.UNAUTHENTICATED
        (answer,) = [each async for each in stub.ModelStreamInfer(iter([request]), metadata=metadata)]
        assert "no key" in answer.error_message
    metadata = (("authorization", "Bearer key"),)
    assert (await stub.ModelInfer(request, metadata=metadata)).raw_output_contents == [bytes(8)]
    await stub.RepositoryModelLoad(load, metadata=metadata)


async def test_messages_count_as_bodies_while_they_are_held(rpc):
    server, stub, _ = await rpc("id", max_upload_memory_mb=1)
    large = numbers("UINT8", bytes(1_500_000), shape=(1, 1_500_000))
    assert (await error_of(stub.ModelInfer(large)))[0] == grpc.StatusCode.UNAVAILABLE
    assert (await stub.ModelInfer(numbers("FP32", bytes(8)))).raw_output_contents == [bytes(8)]
    assert server.service.context.bodies.memory.used == 0


def test_grpc_does_not_watch_forks_which_only_exec_here(monkeypatch):
    found, variable = [], "GRPC_ENABLE_FORK_SUPPORT"
    monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(listener, "RpcListener", lambda *_: found.append(os.environ.get(variable)))
    _rpc_listener(Config(server=ServerConfig(grpc_port="0")), None)
    assert found == ["0"] and variable not in os.environ, "it logs each fork; a handler may need it"
