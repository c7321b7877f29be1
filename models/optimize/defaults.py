"""What the pretrained weights of an architecture are used with."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.bundles.labels import Labels, load_labels
from models.bundles.spec import PreprocessSpec
from models.images.presets import read_preprocess
from models.networks.architectures import StateDict
from models.optimize.choice import WeightsChoice
from models.optimize.errors import UsageError
from models.optimize.weights import SpecTransforms, Transforms, Weights

_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Defaults:
    """Labels and preprocessing of pretrained weights.

    Attributes:
        labels: one per class; None: not given.
        preprocess: how images are prepared for the library's own network.
        transforms: the library's own way to do that.
        renormalises: whether that network renormalises its input (`models.networks.architectures.RENORMALISING`).
    """

    labels: Labels | None
    preprocess: PreprocessSpec
    transforms: Transforms
    renormalises: bool = False

    def weights(
        self, choice: WeightsChoice, state: StateDict, labels: Labels, source: Mapping[str, Any]
    ) -> Weights:
        """These with weights; where the choice names a preprocessing it is taken literally instead."""
        if choice.preprocess is not None:
            spec = read_preprocess(str(choice.preprocess))
            return Weights(choice.architecture, state, labels, spec, SpecTransforms(spec), False, source)
        spec = self.preprocess
        if self.renormalises:
            spec = dataclasses.replace(spec, mean=_HALF, std=_HALF)
        return Weights(choice.architecture, state, labels, spec, self.transforms, self.renormalises, source)

    def chosen_labels(self, choice: WeightsChoice) -> Labels:
        """Those of the choice's file, else the default ones. Raises UsageError where there are neither."""
        if choice.labels is not None:
            return load_labels(choice.labels)
        if self.labels is None:
            raise UsageError(f"{choice.architecture} needs --labels FILE, with one label per class")
        return self.labels


def check_label_count(choice: WeightsChoice, labels: Labels, expected: int) -> None:
    """Raises UsageError where the label file does not name the classes of pretrained weights."""
    if len(labels) != expected:
        raise UsageError(
            f"{choice.labels}: {len(labels)} labels for the {expected} classes of {choice.architecture}"
        )
