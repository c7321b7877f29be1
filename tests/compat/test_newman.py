"""TorchServe's Postman collections, run by newman: at least as many assertions pass as on the real TorchServe."""

from __future__ import annotations

import base64
import io
import json
import subprocess
from dataclasses import dataclass, field

import numpy as np
import pytest
from PIL import Image

from tests.compat.recording import shared
from tests.compat.servers import Served
from tests.compat.store import add_classifier, add_mnist, fitted, small_classifier
from tests.conftest import ROOT, lacking

FOLDER = shared("postman")
NEWMAN = ROOT / ".cache" / "newman" / "node_modules" / ".bin" / "newman"
_CLASSIFIERS = ("squeezenet1_1", "densenet161", "resnet-152-batch", "resnet-18", "alexnet", "vgg16")
_MNIST_MEAN, _MNIST_STD = 0.1307, 0.3081
_OPEN = {"disable_token_authorization": "true", "enable_model_api": "true", "metrics_mode": "prometheus"}
_TLS = {f"{api}_address": f"https://127.0.0.1:{{{api}}}" for api in ("inference", "management", "metrics")}

pytestmark = [
    pytest.mark.skipif(
        not FOLDER.exists(), reason="the collections are not here: compat/postman (SNAPSERVE_SHARED)"
    ),
    pytest.mark.timeout(900),
]


@dataclass(frozen=True)
class Run:
    """A collection, and how many of its assertions pass on TorchServe 0.12.0 with stand-in archives.

    Attributes:
        collection: file, without `_test_collection.json`.
        passed: by TorchServe.
        total: of all.
        data: file of the rows that it is run for.
        settings: of the server, beside those of all.
        is_tls: whether the addresses are https.
    """

    collection: str
    passed: int
    total: int
    data: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    is_tls: bool = False


RUNS = [
    Run("management_api", 82, 82, "management_data"),
    Run("https", 9, 9, is_tls=True),
    Run("kf_api", 7, 7, "kf_inference_data", {"service_envelope": "kserve"}),
    Run("kfv2_api", 7, 7, "kfv2_inference_data", {"service_envelope": "kservev2"}),
    Run("explanation_api", 5, 5, "explanation_data"),
    Run("kf_https", 9, 10, settings={"service_envelope": "kserve"}, is_tls=True),
    Run("kfv2_https", 10, 10, settings={"service_envelope": "kservev2"}, is_tls=True),
    Run("inference_api", 40, 103, "inference_data"),
    Run("inference_api", 0, 5, "increased_timeout_inference", {"default_response_timeout": "300"}),
]


@pytest.fixture(scope="module")
def newman(require):
    """The program; skips where it is missing."""
    require("node")
    if not NEWMAN.exists():
        lacking("newman is not installed; scripts/newman.sh installs it")
    return NEWMAN


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Stand-ins for the archives that the collections name: small networks of the same inputs and outputs."""
    folder, work = tmp_path_factory.mktemp("newman-store"), tmp_path_factory.mktemp("newman-weights")
    for name in _CLASSIFIERS:
        add_classifier(folder, work, name, small_classifier())
    add_mnist(folder, work, "mnist", fitted({2: encoded_digit(), 1: tensor_digit()}))
    return folder


def encoded_digit():
    """The picture of the KServe v1 request, as the handler's transform gives it to the network."""
    (instance,) = request_body("v1/mnist.json")["instances"]
    with Image.open(io.BytesIO(base64.b64decode(instance["data"]))) as image:
        return (np.asarray(image, np.float32) / 255 - _MNIST_MEAN) / _MNIST_STD


def tensor_digit():
    """The tensor of the KServe v2 request."""
    (tensor,) = request_body("v2/mnist/mnist_v2_tensor.json")["inputs"]
    return np.asarray(tensor["data"], np.float32)


def request_body(name):
    return json.loads((FOLDER / "kubernetes" / "kserve" / "kf_request_json" / name).read_text())


@pytest.mark.parametrize(
    "run", RUNS, ids=lambda run: f"{run.collection}-{run.data}" if run.data else run.collection
)
def test_a_collection_passes_as_on_torchserve(run, newman, store, tmp_path, request):
    settings = {**_OPEN, **run.settings}
    if run.is_tls:
        settings |= {**_TLS, **request.getfixturevalue("certificate")}
    served = Served(store, tmp_path, settings)
    try:
        served.start("--ncs")
        stats, failures = results(newman, run, served.ports, tmp_path)
    finally:
        served.stop()
    passed = stats["total"] - stats["failed"]
    print(f"{run.collection}: {passed} of {stats['total']} passed; TorchServe: {run.passed} of {run.total}")
    assert stats["total"] == run.total
    assert passed >= run.passed, failures


def results(newman, run, ports, folder):
    """Counts of newman's assertions, and what failed."""
    collection, report = folder / "collection.json", folder / "report.json"
    text = (FOLDER / f"{run.collection}_test_collection.json").read_text()
    # The one address that no variable changes.
    collection.write_text(text.replace('"port": "8082"', f'"port": "{ports["metrics"]}"'))
    secure = "sec-" if run.is_tls else ""
    names = {"pred": "inference", "mgmt": "management", "metric": "metrics"}
    variables = {"hostname": "127.0.0.1", **{f"{secure}{key}-port": ports[api] for key, api in names.items()}}
    words = [str(newman), "run", str(collection), "-e", "environment.json", "--working-dir", "examples"]
    words += ["--timeout-request", "240000", "--insecure", "--reporters", "json"]
    words += ["--reporter-json-export", str(report)]
    words += [word for name, value in variables.items() for word in ("--env-var", f"{name}={value}")]
    words += ["-d", f"{run.data}.json"] if run.data else []
    subprocess.run(words, cwd=FOLDER, capture_output=True, text=True, timeout=800, check=False)
    result = json.loads(report.read_text())["run"]
    failures = [f"{each['error'].get('test')}: {each['error']['message']}" for each in result["failures"]]
    return result["stats"]["assertions"], failures
