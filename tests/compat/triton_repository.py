"""Loads and unloads a model with the real `tritonclient`, over HTTP and gRPC; run by its own Python. Prints JSON.

Usage: triton_repository.py HOST:PORT MANAGEMENT_HOST:PORT GRPC_HOST:PORT TOKEN MODEL
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, managing, rpc, token, model = sys.argv[1:]
headers = {"authorization": f"Bearer {token}"}
given = triton.InferInput("x", [1, 2], "FP32")
given.set_data_from_numpy(np.array([[1, 2]], np.float32))


def status_of(call, *arguments, **options):
    """The status of a call that has to fail."""
    try:
        call(*arguments, **options)
    except InferenceServerException as error:
        return error.status()
    return None


def answers(client):
    return [client.infer(model, [given]).as_numpy("OUTPUT__0").tolist() for _ in range(8)]


def over_http(manager, client):
    found = {"without token": status_of(manager.load_model, model), "before": client.is_model_ready(model)}
    manager.load_model(model, headers=headers)
    found["index"] = [each["name"] for each in manager.get_model_repository_index(headers=headers)]
    found["answers"] = answers(client)
    manager.unload_model(model, headers=headers)
    return {**found, "after": client.is_model_ready(model)}


def over_grpc(manager, client):
    wrong = {"authorization": "Bearer wrong"}
    found = {
        "without token": status_of(manager.load_model, model),
        "another token": status_of(manager.load_model, model, headers=wrong),
        "no such model": status_of(manager.load_model, "no/such model", headers=headers),
        "before": client.is_model_ready(model),
    }
    manager.load_model(model, headers=headers)
    found["index"] = [each.name for each in manager.get_model_repository_index().models]
    found["answers"] = answers(client)
    found["unloaded without token"] = status_of(manager.unload_model, model)
    manager.unload_model(model, headers=headers)
    return {**found, "after": client.is_model_ready(model)}


with triton.InferenceServerClient(address) as client:
    with triton.InferenceServerClient(managing) as manager:
        found = {"http": over_http(manager, client)}
    with triton_grpc.InferenceServerClient(rpc) as manager:
        found["grpc"] = over_grpc(manager, client)
print(json.dumps(found))
