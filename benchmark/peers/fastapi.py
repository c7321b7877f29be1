"""FastAPI in three ways, each made by a function that gunicorn or uvicorn calls."""

from __future__ import annotations

import asyncio
import io
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision import transforms

from benchmark.peers.model import PeerModel, answer, named_bundle, torchvision_preset
from models.engines.torchscript import load_network
from models.networks.graph import jit_warnings_ignored


def plain() -> FastAPI:
    """As most people write it: a `def` handler, torchvision's preset on a PIL image, the eager network."""
    torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
    bundle, app = named_bundle(), FastAPI()
    network, transform = load_network(bundle).eval(), torchvision_preset(bundle.spec.preprocess)

    @app.post("/classify")
    def classify(image: UploadFile) -> dict[str, Any]:
        opened = Image.open(image.file).convert("RGB")
        with torch.inference_mode():
            probabilities = network(transform(opened).unsqueeze(0)).softmax(dim=1)
        return answer(probabilities[0].numpy(), bundle.labels)

    return app


def ancestor() -> FastAPI:
    """The C++ ancestor's comparison: blocking code in `async def`, a frozen script, transforms built per request.

    As there: the image is squeezed into the square without keeping its aspect, and mean and std are left out, so
    its answers differ from all others. Its `torch.cuda.empty_cache()` per request does nothing on a CPU.
    """
    torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
    bundle, app = named_bundle(), FastAPI()
    side = bundle.spec.preprocess.crop_size
    with jit_warnings_ignored():
        network = torch.jit.freeze(torch.jit.script(load_network(bundle).eval()))

    @app.post("/classify")
    async def classify(image: UploadFile) -> dict[str, Any]:
        opened = Image.open(io.BytesIO(await image.read())).convert("RGB")
        transform = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor()])
        with torch.no_grad():
            probabilities = network(transform(opened).unsqueeze(0)).softmax(dim=1)
        return answer(probabilities[0].numpy(), bundle.labels)

    return app


def tuned() -> FastAPI:
    """Done well, without batches: SnapServe's preprocessing and TorchScript file, on a pool of threads."""
    model, app = PeerModel(), FastAPI()
    model.warm_up()
    pool = ThreadPoolExecutor(int(os.environ.get("PEER_POOL", "1")))

    def classified(data: bytes) -> dict[str, Any]:
        return model.infer([model.preprocess(data)])[0]

    @app.post("/classify", response_model=None)
    async def classify(image: UploadFile) -> dict[str, Any]:
        data = await image.read()
        return await asyncio.get_running_loop().run_in_executor(pool, classified, data)

    return app
