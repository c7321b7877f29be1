"""The built-in handler of networks that find objects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torchvision import transforms

from models.handlers.label_mapping import map_class_to_label
from models.handlers.vision_handler import VisionHandler


class ObjectDetector(VisionHandler):
    """Answers with the objects of each image: name, box and score.

    Attributes:
        threshold: least score of an object.
    """

    threshold = 0.5
    image_processing = image_processing_of_rgb = transforms.ToTensor()

    def preprocess(self, data: Sequence[Any]) -> list[Any]:
        """Images -> tensors, each of its own size."""
        return [self.tensor_of(row).to(self.device) for row in data]

    def inference(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """Runs the network; what is TorchScript returns the losses before the detections."""
        with torch.inference_mode():
            found = self.model(data, *args, **kwargs)
        return found[1] if isinstance(found, tuple) else found

    def postprocess(self, data: Any) -> list[Any]:
        """Boxes, labels and scores per request -> [{name: box, "score": score}, ...]."""
        return [self._objects(found) for found in data]

    def _objects(self, found: dict[str, Any]) -> list[dict[str, Any]]:
        kept = found["scores"] >= self.threshold
        boxes, labels, scores = (found[name][kept].tolist() for name in ("boxes", "labels", "scores"))
        rows: list[Any] = [[box] for box in boxes]
        named = map_class_to_label(rows, self.mapping, [[label] for label in labels])
        return [{**name, "score": score} for name, score in zip(named, scores, strict=True)]
