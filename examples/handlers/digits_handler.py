"""Reads a handwritten digit: the built-in handler of classifiers, with other sizes and an answer of its own."""

from __future__ import annotations

from typing import Any

import torch
from torchvision import transforms
from ts.torch_handler.image_classifier import ImageClassifier


class DigitsHandler(ImageClassifier):
    """Answers with the digit and its probability."""

    image_processing = transforms.Compose(
        [
            transforms.Lambda(lambda image: image.convert("RGB")),
            transforms.Resize(96),
            transforms.CenterCrop(96),
            transforms.ToTensor(),
            transforms.Normalize((0.5,) * 3, (0.5,) * 3),
        ]
    )

    def postprocess(self, data: Any) -> list[dict[str, Any]]:
        """Scores of ten digits -> an answer per request."""
        scores, digits = torch.softmax(data, dim=1).max(dim=1)
        pairs = zip(digits.tolist(), scores.tolist(), strict=True)
        return [{"digit": digit, "score": round(score, 4)} for digit, score in pairs]
