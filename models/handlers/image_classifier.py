"""The built-in handler of image classifiers."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms

from models.handlers.label_mapping import map_class_to_label
from models.handlers.vision_handler import VisionHandler

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
_IMAGENET = transforms.Compose(
    [
        transforms.Resize(256),
        transforms.CenterCrop(224),
        transforms.ToTensor(),
        transforms.Normalize(_MEAN, _STD),
    ]
)


class ImageClassifier(VisionHandler):
    """Answers with the most likely classes and their probabilities.

    Attributes:
        topk: how many.
    """

    topk = 5
    image_processing = image_processing_of_rgb = _IMAGENET

    def set_max_result_classes(self, topk: int) -> None:
        """Sets how many classes are in an answer."""
        self.topk = topk

    def get_max_result_classes(self) -> int:
        """How many classes are in an answer."""
        return self.topk

    def postprocess(self, data: Any) -> list[Any]:
        """Scores [N, classes] -> {name: probability} per request, the most likely first."""
        probabilities = torch.nn.functional.softmax(data, dim=1)
        values, classes = torch.topk(probabilities, min(self.topk, probabilities.shape[1]), dim=1)
        return map_class_to_label(values.tolist(), self.mapping, classes.tolist())
