"""FastAPI as most people write it: a `def` handler, torchvision's preset on a PIL image, the eager network."""

from __future__ import annotations

import os
from typing import Any

import torch
from fastapi import FastAPI, UploadFile
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from benchmark.peers.model import answer, named_bundle
from models.engines.torchscript import load_network

torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
bundle = named_bundle()
spec = bundle.spec.preprocess
network = load_network(bundle).eval()
transform = ImageClassification(
    crop_size=spec.crop_size,
    resize_size=spec.resize_size,
    mean=spec.mean,
    std=spec.std,
    interpolation=InterpolationMode(spec.interpolation),
)
app = FastAPI()


@app.post("/classify")
def classify(image: UploadFile) -> dict[str, Any]:
    """One picture, one forward pass."""
    picture = Image.open(image.file).convert("RGB")
    with torch.inference_mode():
        probabilities = network(transform(picture).unsqueeze(0)).softmax(dim=1)
    return answer(probabilities[0].numpy(), bundle.labels)
