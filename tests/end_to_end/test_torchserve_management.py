"""TorchServe's management API of a real server, with real archives: what was recorded of TorchServe itself."""

from __future__ import annotations

import threading
import time

import psutil
import pytest

from tests.end_to_end.archives import BROKEN, DESCRIBES, ECHO, TorchServer, make_archive

SETTINGS = '{"first": {"1.0": {"minWorkers": 1, "maxWorkers": 2}}}'
YAML = "minWorkers: 1\nmaxWorkers: 1\nbatchSize: 4\nmaxBatchDelay: 300\nresponseTimeout: 7\n"
KEYS = [
    "modelName",
    "modelVersion",
    "modelUrl",
    "runtime",
    "minWorkers",
    "maxWorkers",
    "batchSize",
    "maxBatchDelay",
    "responseTimeout",
    "startupTimeout",
    "maxRetryTimeoutInSec",
    "clientTimeoutInMills",
    "parallelType",
    "parallelLevel",
    "deviceType",
    "continuousBatching",
    "useJobTicket",
    "useVenv",
    "stateful",
    "sequenceMaxIdleMSec",
    "sequenceTimeoutMSec",
    "maxNumSequence",
    "maxSequenceJobQueueSize",
    "loadedAtStartup",
    "workers",
    "jobQueueStatus",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A working directory with a model store."""
    folder = tmp_path_factory.mktemp("torchserve")
    store = folder / "store"
    store.mkdir()
    make_archive(store / "echo.mar", "echo")
    make_archive(store / "echo2.mar", "echo", version="2.0")
    make_archive(store / "start.mar", "start")
    make_archive(store / "broken.mar", "broken", BROKEN)
    make_archive(store / "withyaml.mar", "withyaml", version="3.1.4", yaml=YAML)
    make_archive(store / "describes.mar", "describes", DESCRIBES)
    make_archive(store / "slow.mar", "slow", f"import time\ntime.sleep(1)\n{ECHO}")
    make_archive(store / "slowbroken.mar", "slowbroken", f"import time\ntime.sleep(1)\n{BROKEN}")
    (store / "notzip.mar").write_bytes(b"no archive")
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """One server for all that leaves it as it was."""
    with TorchServer(folder, "--models", "first=start.mar", "--model-settings", SETTINGS,
                     "--enable-model-api", "--ncs") as server:  # fmt: skip
        yield server


def error(code, kind, message):
    return code, {"code": code, "type": kind, "message": message}


def registered(name, version="1.0", workers=0):
    hint = "" if workers else ". Use scale workers API to add workers for the model."
    return 200, {"status": f'Model "{name}" Version: {version} registered with {workers} initial workers{hint}'}


def nothing(message):
    return error(404, "ModelNotFoundException", message)


LOOK = "please refer to API document."
NOT_FOUND = error(404, "ResourceNotFoundException", f"Requested resource is not found, {LOOK}")
NOT_ALLOWED = error(405, "MethodNotAllowedException", f"Requested method is not allowed, {LOOK}")
UNKNOWN = nothing("Model not found: none")
NO_URL = error(400, "BadRequestException", "Parameter url is required.")
NO_MODEL = error(400, "InvalidModelException", "Model name is not defined.")
JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/", NOT_ALLOWED),
        ("GET", "/nothing", NOT_FOUND),
        ("GET", "/ping", NOT_FOUND),
        ("POST", "/predictions/first", NOT_FOUND),
        ("GET", "//models", NOT_FOUND),
        ("GET", "/token?type=inference", NOT_FOUND),
        ("GET", "/workflows", (200, {"workflows": []})),
        ("PATCH", "/models", NOT_ALLOWED),
        ("PATCH", "/models/none", NOT_ALLOWED),
        ("POST", "/models/none", NOT_ALLOWED),
        ("POST", "/v1/models/first", NOT_ALLOWED),
        ("PUT", "/models/none/1.0/other", NOT_FOUND),
        ("GET", "/models/none", UNKNOWN),
        ("GET", "/models/none/1.0", UNKNOWN),
        ("GET", "/models/none/all", UNKNOWN),
        ("GET", "/v1/models/none", UNKNOWN),
        ("OPTIONS", "/models/none", UNKNOWN),
        ("PUT", "/models/none?min_worker=1", UNKNOWN),
        ("DELETE", "/models/none", UNKNOWN),
        ("PUT", "/models/none/1.0/set-default", UNKNOWN),
        ("GET", "/models/digits", nothing("Model not found: digits")),
        ("GET", "/models/first/9", error(404, "ModelVersionNotFoundException",
                                         "Model version: 9 does not exist for model: first")),
        ("PUT", "/models/first/9/set-default", error(404, "ModelVersionNotFoundException",
                                                     "Model version 9 does not exist for model first")),
        ("GET", "/v1/models/first", (200, {"name": "first", "ready": True})),
        ("GET", "/models/", (200, {"models": [{"modelName": "first", "modelUrl": "start.mar"}]})),
        ("POST", "/models", NO_URL),
        ("POST", "/models?url=", nothing("empty url")),
        ("POST", "/models?url=../x.mar", nothing("Relative path is not allowed in url: ../x.mar")),
        ("POST", "/models?url=nothere.mar", nothing("Model not found at: nothere.mar")),
        ("POST", "/models?url=/etc/passwd", nothing("Model not found at: /etc/passwd")),
        ("POST", "/models?url=ftp://127.0.0.1/x.mar", nothing("Model not found at: ftp://127.0.0.1/x.mar")),
        ("POST", "/models?url=http://127.0.0.1:9/echo.mar", error(500, "InternalServerException",
                                                                  "Model file already exists echo.mar")),
        ("POST", "/models?url=http://127.0.0.1:9/x.mar", error(
            400, "DownloadArchiveException", "Failed to download archive from: http://127.0.0.1:9/x.mar")),
        ("POST", "/models?url=file:///none.mar", error(400, "DownloadArchiveException",
                                                       "Failed to download archive from: file:///none.mar")),
        ("POST", "/models?url=notzip.mar", NO_MODEL),
        ("POST", "/models?url=echo.mar&runtime=python4", error(400, "BadRequestException",
                                                               "Invalid RuntimeType value: python4")),
        ("POST", "/models?url=start.mar&model_name=first", error(
            409, "ConflictStatusException", "Model version 1.0 is already registered for model first")),
        ("POST", "/models?url=echo.mar&model_name=digits", error(
            409, "ConflictStatusException", "Model version 1.0 is already registered for model digits")),
        ("POST", "/models?url=broken.mar&initial_workers=1", error(
            500, "InternalServerException", "Failed to start workers for model broken version: 1.0")),
        ("GET", "/models/broken", nothing("Model not found: broken")),
        ("POST", "/models?url=echo.mar&initial_workers=1&handler=none", error(
            500, "InternalServerException", "Failed to start workers for model echo version: 1.0")),
        ("PUT", "/models/first?min_worker=2&max_worker=1", error(
            400, "BadRequestException", "max_worker cannot be less than min_worker.")),
        ("PUT", "/models/first?max_worker=-1", error(
            400, "BadRequestException", "max_worker cannot be less than min_worker.")),
        ("PUT", "/models/first?min_worker=-1", error(
            500, "InternalServerException", "min_worker cannot be less than 0.")),
        ("POST", "/models?url=echo.mar&model_name=late&initial_workers=1&startup_timeout=0", error(
            500, "InternalServerException", "Failed to start workers for model late version: 1.0")),
        ("GET", "/models/late", nothing("Model not found: late")),
        ("PUT", "/models/first", (202, {"status": "Processing worker updates..."})),
        ("PUT", "/models/first?min_worker=abc&synchronous=true", (
            200, {"status": "Workers scaled to 1 for model: first"})),
        ("PUT", "/models/first/1.0?min_worker=1&synchronous=TRUE", (
            200, {"status": "Workers scaled to 1 for model: first, version: 1.0"})),
        ("PUT", "/models/first/1.0/set-default", (
            200, {"status": 'Default version successfully updated for model "first" to "1.0"'})),
    ],
)  # fmt: skip
def test_a_request_is_answered_as_by_torchserve(server, method, path, expected):
    assert server.ask(method, path) == expected
    assert server.predict("first", "hi") == (200, "first says hi"), "nobody else is hurt"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 400),
        (b"{bad", 400),
        (b"[]", 400),
        (b'{"url": "echo.mar", "batch_size": "x"}', 400),
        (b'{"url": ["echo.mar"]}', 400),
        (b"[" * 60_000, 400),
        (b" " * 70_000, 413),
    ],
)
def test_a_body_that_is_no_json_is_the_clients_error(server, body, expected):
    status, told = server.ask("POST", "/models?url=echo.mar", body, JSON)
    assert (status, told["code"]) == (expected, expected)
    assert server.ask("POST", "/models?url=echo.mar", b"{}", JSON) == NO_URL, "the query does not count then"


def test_a_model_is_registered_without_workers_then_scaled_and_described(server):
    assert server.ask("POST", "/models?url=echo.mar&batch_size=dd&response_timeout=x") == registered("echo")
    assert server.ask("GET", "/v1/models/echo") == (200, {"name": "echo", "ready": False})
    status, told = server.predict("echo")
    assert (status, told["type"]) == (503, "ServiceUnavailableException")
    assert told["message"].startswith('Model "echo" has no worker to serve inference request.')
    assert server.ask("GET", "/models/echo?customized=true")[0] == 503
    scaled = {"status": "Workers scaled to 2 for model: echo"}
    assert server.ask("PUT", "/models/echo?min_worker=2&max_worker=3&synchronous=true") == (200, scaled)
    assert server.predict("echo", "hi") == (200, "echo says hi")
    status, (told,) = server.ask("GET", "/models/echo")
    assert (status, list(told)) == (200, KEYS)
    assert (told["minWorkers"], told["maxWorkers"], told["loadedAtStartup"]) == (2, 3, False)
    first, second = told["workers"]
    assert [first["status"], second["status"]] == ["READY", "READY"]
    assert int(second["id"]) == int(first["id"]) + 1
    assert {psutil.Process(each["pid"]).is_running() for each in told["workers"]} == {True}
    assert all(each["memoryUsage"] > 1 << 20 for each in told["workers"])
    assert server.ask("PUT", "/models/echo?min_worker=1&synchronous=true")[0] == 200
    status, (told,) = server.ask("GET", "/models/echo/1.0")
    assert [each["id"] for each in told["workers"]] == [first["id"]], "the last one has ended"
    assert server.ask("PUT", "/models/echo?min_worker=0&synchronous=true")[0] == 200
    assert server.predict("echo")[0] == 503
    assert server.ask("DELETE", "/models/echo") == (200, {"status": 'Model "echo" unregistered'})
    assert server.ask("GET", "/models/echo")[0] == server.predict("echo")[0] == 404


def test_versions_live_beside_each_other_until_one_is_the_default_and_the_other_gone(server):
    assert server.ask("POST", "/models?url=echo.mar&initial_workers=1") == registered("echo", workers=1)
    assert server.ask("POST", "/models?url=echo2.mar&initial_workers=1") == registered("echo", "2.0", 1)
    assert [each["modelVersion"] for each in server.ask("GET", "/models/echo/all")[1]] == ["1.0", "2.0"]
    assert {"modelName": "echo", "modelUrl": "echo.mar"} in server.ask("GET", "/models")[1]["models"]
    refused = error(403, "InvalidModelVersionException", "Cannot remove default version for model echo")
    assert server.ask("DELETE", "/models/echo") == refused
    assert server.ask("PUT", "/models/echo/2.0/set-default")[0] == 200
    assert {"modelName": "echo", "modelUrl": "echo2.mar"} in server.ask("GET", "/models")[1]["models"]
    assert server.predict("echo/1.0", "a") == server.predict("echo", "a") == (200, "echo says a")
    for version in ("1.0", "2.0"):
        assert server.ask("DELETE", f"/models/echo/{version}") == (200, {"status": 'Model "echo" unregistered'})


def test_the_yaml_file_of_an_archive_has_its_say(server):
    path = "/models?url=withyaml.mar&batch_size=2&max_batch_delay=20&response_timeout=99&initial_workers=2"
    assert server.ask("POST", path) == registered("withyaml", "3.1.4", 1)
    (told,) = server.ask("GET", "/models/withyaml")[1]
    assert (told["batchSize"], told["maxBatchDelay"], told["responseTimeout"]) == (2, 20, 7)
    assert server.ask("DELETE", "/models/withyaml")[0] == 200


def test_a_handler_describes_itself(server):
    body = b'{"url": "describes.mar", "initial_workers": 1, "batch_size": "3", "synchronous": true}'
    assert server.ask("POST", "/models", body, JSON) == registered("describes", workers=1)
    (told,) = server.ask("GET", "/models/describes?customized=true")[1]
    assert (told["customizedMetadata"], told["batchSize"]) == ({"about": "echoes"}, 3)
    assert list(told) == [*KEYS, "customizedMetadata"]
    (told,) = server.ask("GET", "/models/describes/all?customized=true")[1]
    assert "customizedMetadata" not in told
    assert server.ask("DELETE", "/models/describes")[0] == 200


def test_a_registration_that_is_not_waited_for_goes_on(server):
    processing = 202, {"status": "Processing worker updates..."}
    assert server.ask("POST", "/models?url=slow.mar&initial_workers=1&synchronous=false") == processing
    (told,) = server.ask("GET", "/models/slow")[1]
    assert (told["minWorkers"], len(told["workers"])) == (1, 1)
    assert server.predict("slow", "hi") == (200, "slow says hi"), "it waits for the worker"
    assert server.ask("PUT", "/models/slow?min_worker=0&synchronous=true")[0] == 200
    assert server.predict("slow")[0] == 503
    assert server.ask("PUT", "/models/slow?min_worker=1") == processing
    assert server.predict("slow", "hi") == (200, "slow says hi")
    assert server.ask("DELETE", "/models/slow")[0] == 200
    assert server.ask("POST", "/models?url=slowbroken.mar&initial_workers=1&synchronous=false") == processing
    assert server.predict("slowbroken")[0] == 503, "the worker does not start"
    until(lambda: server.ask("GET", "/models/slowbroken")[0] == 404)


def test_requests_that_run_are_answered_before_a_model_is_gone(server):
    assert server.ask("POST", "/models?url=echo.mar&initial_workers=1")[0] == 200
    answers = []
    asking = threading.Thread(target=lambda: answers.append(server.predict("echo", "sleep1.5")))
    asking.start()
    until(lambda: psutil.Process(server.server.process.pid).is_running() and in_flight(server))
    assert server.ask("DELETE", "/models/echo")[0] == 200
    asking.join()
    assert answers == [(200, "echo says sleep1.5")]


def in_flight(server):
    """Whether a request uses the model, as our own list of models has it."""
    text = server.ask("GET", "/models/echo", url=server.server.url)[1]
    return any(each["users"] for each in text["versions"])


def until(holds, seconds=60):
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_openapi_descriptions(server):
    status, told = server.ask("OPTIONS", "/")
    assert (status, told["info"]["title"]) == (200, "TorchServe APIs")
    assert set(told["paths"]["/models"]) == {"get", "post"}
    assert told["paths"]["/models/{model_name}"]["put"]["operationId"] == "setAutoScale"
    assert server.ask("GET", "/api-description")[1] == told
    assert server.ask("OPTIONS", "/models/first")[1]["info"]["title"] == "RESTful Management API for: first"
