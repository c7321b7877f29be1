"""Handlers of images."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from typing import Any

import torch
from PIL import Image, ImageOps

from models.handlers.base_handler import BaseHandler
from models.handlers.context import Context
from models.handlers.integrated_gradients import IntegratedGradients

_STEPS = 15  # of an explanation


class VisionHandler(BaseHandler):
    """Decodes images and prepares each with `image_processing`, which a subclass has.

    Attributes:
        ig: explains what the network says.
        image_processing: image of Pillow -> tensor.
        image_processing_of_rgb: the same where it takes RGB only: images of other kinds are then converted.
    """

    image_processing: Callable[[Any], Any] | None = None
    image_processing_of_rgb: Callable[[Any], Any] | None = None

    def initialize(self, context: Context) -> None:
        """Loads the network of the archive."""
        super().initialize(context)
        self.ig = IntegratedGradients(self.model)

    def preprocess(self, data: Sequence[Any]) -> Any:
        """Images -> a batch: field `data` of each request, else `body`.

        Bytes are an encoded image, text is one in base64, and a list holds the values of the tensor.
        """
        return torch.stack([self.tensor_of(row) for row in data]).to(self.device)

    def tensor_of(self, row: Any) -> Any:
        """The tensor of one request."""
        value = (row.get("data") or row.get("body")) if isinstance(row, dict) else row
        if isinstance(value, str):
            value = base64.b64decode(value)
        if not isinstance(value, bytes | bytearray):
            return torch.tensor(value, dtype=torch.float32)
        image: Image.Image = Image.open(io.BytesIO(value))
        assert self.image_processing is not None, "a vision handler has an image_processing"
        if self.image_processing is self.image_processing_of_rgb:
            image = _upright(image)
        return self.image_processing(image)

    def get_insights(self, tensor_data: Any, raw_data: Any, target: int = 0) -> list[Any]:
        """What each value of the tensor adds to the score of a class: integrated gradients."""
        return self.ig.attribute(tensor_data, target=target, n_steps=_STEPS).tolist()


def _upright(image: Image.Image) -> Image.Image:
    """As RGB, and turned as its EXIF data says."""
    return ImageOps.exif_transpose(image).convert("RGB")
