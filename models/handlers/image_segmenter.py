"""The built-in handler of networks that give each pixel a class."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from models.handlers.vision_handler import VisionHandler

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet


class ImageSegmenter(VisionHandler):
    """Answers with class and probability of each pixel."""

    image_processing = image_processing_of_rgb = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(_MEAN, _STD),
        ]
    )

    def postprocess(self, data: Any) -> list[Any]:
        """{"out": scores [N, classes, H, W]} -> nested lists [H][W] of [class, probability] per request."""
        scores = data["out"] if isinstance(data, dict) else data
        values, classes = torch.nn.functional.softmax(scores, dim=1).max(dim=1)
        return torch.stack((classes.to(values.dtype), values), dim=-1).tolist()
