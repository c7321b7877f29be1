"""The C++ ancestor's comparison: blocking code in `async def`, a frozen script, transforms built per request.

As there: the picture is squeezed into the square without keeping its aspect, and mean and std are left out. So its
answers differ from everybody else's. Its `torch.cuda.empty_cache()` per request does nothing on a CPU.
"""

from __future__ import annotations

import io
import os
from typing import Any

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision import transforms

from benchmark.peers.model import answer, named_bundle
from models.engines.torchscript import load_network
from models.networks.graph import jit_warnings_ignored

torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
bundle = named_bundle()
side = bundle.spec.preprocess.crop_size
with jit_warnings_ignored():
    network = torch.jit.freeze(torch.jit.script(load_network(bundle).eval()))
app = FastAPI()


@app.post("/classify")
async def classify(image: UploadFile) -> dict[str, Any]:
    """One picture, one forward pass, on the event loop."""
    picture = Image.open(io.BytesIO(await image.read())).convert("RGB")
    transform = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor()])
    with torch.no_grad():
        probabilities = network(transform(picture).unsqueeze(0)).softmax(dim=1)
    return answer(probabilities[0].numpy(), bundle.labels)
