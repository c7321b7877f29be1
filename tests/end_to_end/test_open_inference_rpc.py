"""gRPC of real server processes: several workers behind one port, a worker that dies, the end."""

from __future__ import annotations

import signal
import threading

import grpc
import psutil
import pytest

from benchmark.harness.server import ROOT, ServerProcess
from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.rpc.generated.open_inference_pb2_grpc import GRPCInferenceServiceStub

IMAGE = (ROOT / "images" / "digit-5-white-on-black.jpg").read_bytes()
DRAIN_S = 30


@pytest.fixture(scope="module")
def server():
    with ServerProcess("--model", "models/demo", "--workers", "2", "--grpc-port", "0") as found:
        found.rpc = found.line("Open Inference over gRPC on ").rpartition(" ")[2]
        yield found


def stub(address):
    """On a connection of its own."""
    channel = grpc.insecure_channel(address, [("grpc.use_local_subchannel_pool", 1)])
    return GRPCInferenceServiceStub(channel)


def classified(on, wait=True):
    """The best class of a five. wait: for a connection."""
    contents = pb.InferTensorContents(bytes_contents=[IMAGE])
    given = pb.ModelInferRequest.InferInputTensor(name="image", datatype="BYTES", shape=[1], contents=contents)
    wanted = pb.ModelInferRequest.InferRequestedOutputTensor(name="scores")
    wanted.parameters["classification"].int64_param = 1
    request = pb.ModelInferRequest(model_name="digits", inputs=[given], outputs=[wanted])
    answer = on.ModelInfer(request, timeout=30, wait_for_ready=wait)
    return answer.raw_output_contents[0][4:].decode().split(":")[1:]


def workers_of(server):
    """The processes that listen on the port of gRPC."""
    port = int(server.rpc.rpartition(":")[2])
    children = psutil.Process(server.process.pid).children(recursive=True)
    return [each for each in children if port in [one.laddr.port for one in each.net_connections("tcp")]]


def test_every_worker_listens_and_one_that_dies_is_not_missed(server):
    assert [classified(stub(server.rpc)) for _ in range(8)] == [["5", "5"]] * 8
    first, second = workers_of(server)
    first.kill()
    first.wait(DRAIN_S)
    assert [classified(stub(server.rpc)) for _ in range(8)] == [["5", "5"]] * 8
    assert second.is_running()


def test_another_server_is_told_that_the_port_is_taken(server):
    port = server.rpc.rpartition(":")[2]
    with ServerProcess("--model", "models/demo", "--grpc-port", port, wait=False) as other:
        code, _ = other.end()
        assert code == 2 and f"--grpc-port {port}: is in use" in other.stderr()


def test_sigterm_answers_what_was_asked(server):
    answers, first = [], threading.Event()

    def ask():
        on = stub(server.rpc)
        try:
            while True:
                answers.append(classified(on, wait=False))
                first.set()
        except grpc.RpcError as error:
            answers.append(error.code())

    asking = [threading.Thread(target=ask) for _ in range(4)]
    for each in asking:
        each.start()
    assert first.wait(DRAIN_S)
    server.send(signal.SIGTERM)
    code, output = server.end(DRAIN_S)
    for each in asking:
        each.join(DRAIN_S)
    assert code == 0 and ", 0 left," in output, server.stderr()
    # The gRPC library cancels what has arrived and was not given to the server yet.
    refused = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    assert all(each == ["5", "5"] or each in refused for each in answers)
