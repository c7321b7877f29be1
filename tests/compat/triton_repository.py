"""Loads and unloads a model with the real `tritonclient.http`; run by its own interpreter. Prints JSON.

Usage: triton_repository.py HOST:PORT MANAGEMENT_HOST:PORT TOKEN MODEL
"""

from __future__ import annotations

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

address, managing, token, model = sys.argv[1:]
headers = {"Authorization": f"Bearer {token}"}
given = triton.InferInput("x", [1, 2], "FP32")
given.set_data_from_numpy(np.array([[1, 2]], np.float32))
found = {}
with triton.InferenceServerClient(managing) as manager, triton.InferenceServerClient(address) as client:
    try:
        manager.load_model(model)
    except InferenceServerException as error:
        found["without token"] = error.status()
    found["before"] = client.is_model_ready(model)
    manager.load_model(model, headers=headers)
    found["index"] = [each["name"] for each in manager.get_model_repository_index(headers=headers)]
    found["answers"] = [client.infer(model, [given]).as_numpy("OUTPUT__0").tolist() for _ in range(8)]
    manager.unload_model(model, headers=headers)
    found["after"] = client.is_model_ready(model)
print(json.dumps(found))
