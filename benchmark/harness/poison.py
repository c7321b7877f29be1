"""A TorchScript model that some images make crash, hang or take all memory, and such images."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from models.networks.graph import jit_warnings_ignored

SIDE = 32
CRASH, HANG, MEMORY = 255, 160, 90  # blue of the first pixel; `Poisoned` allows for rounding


class Poisoned(torch.nn.Module):
    """Scores of dark and bright; the first pixel names a fault, which no probe of the load checks does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x: float32 [N, 3, SIDE, SIDE], 0 to 255."""
        mean = x.mean(dim=(1, 2, 3)) / 255
        first = x[:, :, 0, 0]
        marked = (first[:, 0] > 254) & (first[:, 1] < 1)
        if bool((marked & (first[:, 2] > 254)).any()):
            # The index is not checked: a write far outside of the tensor.
            index = torch.full([1, 1], 1 << 40, dtype=torch.long)
            mean = mean + torch.ops.aten._sparse_coo_tensor_unsafe(index, torch.ones([1]), [4]).to_dense().sum()
        while bool((marked & (first[:, 2] > 150) & (first[:, 2] < 170)).any()):
            mean = mean * 0.5
        if bool((marked & (first[:, 2] > 80) & (first[:, 2] < 100)).any()):
            size = int(first.max()) << 22  # a constant would be allocated when the file is loaded
            mean = mean + torch.ones([size]).sum()
        return torch.stack([1 - mean, mean], 1)


def write_poisoned(folder: Path) -> Path:
    """Writes the model, its labels and its settings. Returns the file of the model."""
    file, labels = folder / "poisoned.pt", folder / "labels.txt"
    with jit_warnings_ignored():
        torch.jit.save(torch.jit.script(Poisoned()), file)
    labels.write_text("dark\nbright\n")
    scale = 1 / 255  # the network gets the bytes
    preprocess = {"resize_size": SIDE, "crop_size": SIDE, "interpolation": "bilinear", "mean": 0, "std": scale}
    settings = {"labels": labels.name, "preprocess": preprocess, "activation": "none"}
    file.with_suffix(".json").write_text(json.dumps(settings))
    return file


def image(number: int, fault: int | None = None) -> bytes:
    """A dark PNG, another for each number; `fault` is one of the three."""
    pixels = np.full((SIDE, SIDE, 3), 30, np.uint8)
    pixels[-1, -1] = number % 200, number // 200 % 200, number // 40_000
    if fault is not None:
        pixels[0, 0] = 255, 0, fault
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
