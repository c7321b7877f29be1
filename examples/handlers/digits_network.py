"""The network of the digits demo, as a model file: one class, made without arguments."""

from __future__ import annotations

from torchvision.models.shufflenetv2 import ShuffleNetV2


class Digits(ShuffleNetV2):
    """ShuffleNet v2 x0.5 with ten classes."""

    def __init__(self) -> None:
        super().__init__([4, 8, 4], [24, 48, 96, 192, 1024], num_classes=10)
