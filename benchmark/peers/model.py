"""The benchmark's bundle, as a peer uses it: the same file and the same pixels as SnapServe."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from models.bundles.bundle import ModelBundle
from models.bundles.spec import PreprocessSpec
from models.images.preprocess import Pixels, Preprocessor
from models.networks.graph import jit_warnings_ignored

TOP_K = 5
_WARM_UP_SIZES = (1, 2, 4, 8, 16, 32)


class PeerModel:
    """A TorchScript graph of a bundle, its preprocessing and its labels.

    The bundle is named by the environment variables PEER_BUNDLE and PEER_ENGINE, for all programs alike;
    PEER_THREADS are torch's intra-op threads.

    Attributes:
        preprocess: encoded image -> uint8 [crop, crop, 3]; may be called from any thread.
    """

    def __init__(self) -> None:
        torch.set_num_threads(int(os.environ.get("PEER_THREADS", "1")))
        bundle = named_bundle()
        engine = bundle.spec.engine
        if engine.quantized_engine:
            torch.backends.quantized.engine = engine.quantized_engine
        with jit_warnings_ignored():
            self._graph = torch.jit.load(bundle.file).eval()
        self._labels = bundle.labels
        self._side = bundle.spec.preprocess.crop_size
        self.preprocess = Preprocessor(bundle.spec.preprocess)

    @torch.inference_mode()
    def infer(self, batch: Sequence[Pixels]) -> list[dict[str, Any]]:
        """The answers to a batch, in its order."""
        probabilities = self._graph(torch.from_numpy(np.stack(batch))).numpy()
        return [answer(row, self._labels) for row in probabilities]

    def warm_up(self, largest: int = 1) -> None:
        """Runs batches of one and of up to `largest`: TorchScript optimises in its first two runs."""
        for size in [size for size in _WARM_UP_SIZES if size <= largest]:
            for _ in range(2):
                self.infer([np.zeros((self._side, self._side, 3), np.uint8)] * size)


def torchvision_preset(spec: PreprocessSpec) -> ImageClassification:
    """torchvision's own preprocessing of a PIL image in RGB: float [3, H, W]."""
    return ImageClassification(
        crop_size=spec.crop_size,
        resize_size=spec.resize_size,
        mean=spec.mean,
        std=spec.std,
        interpolation=InterpolationMode(spec.interpolation),
    )


def named_bundle() -> ModelBundle:
    """The bundle and engine that the environment variables name."""
    return ModelBundle.load(Path(os.environ["PEER_BUNDLE"])).with_engine(os.environ["PEER_ENGINE"])


def answer(probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """The JSON document of SnapServe, as far as a client needs it. probabilities: float32 [num_classes]."""
    best = np.argsort(probabilities)[::-1][:TOP_K].tolist()
    predictions = [
        {"label": labels[index], "score": round(float(probabilities[index]), 4), "index": index} for index in best
    ]
    return {"predictions": predictions}
