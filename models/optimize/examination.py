"""Whether a candidate is the classifier that the reference is."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from models.engines.base import Probabilities
from models.machine.resources import usable_cores
from models.optimize.candidates import Candidate
from models.optimize.contestant import Contestant, Setting
from models.optimize.effort import Effort
from models.optimize.evidence import Evidence, accuracy
from models.optimize.fidelity import ENOUGH_IMAGES, PUBLISHED, Fidelity, Limits, compare
from models.optimize.isolation import FAILURES, reason_of
from models.optimize.timing import settings_for
from models.optimize.trial import Trial, reservation_of

_COMPARED = 64  # images that all settings of a candidate are asked about
_ENOUGH_DECISIVE = ENOUGH_IMAGES // 2  # of which the reference's best score leads at all
_SAME = 0.01  # of a score; bf16 adds up differently with other threads


def examine(
    candidate: Candidate, contestant: Contestant, evidence: Evidence, effort: Effort, step: Callable[[str], None]
) -> Trial:
    """Builds a candidate and compares its answers with the reference's; `step` is told what is being done."""
    build, fidelity = None, None
    limits = PUBLISHED if candidate.is_published else effort.limits[candidate.precision]
    asked = evidence.for_precision(candidate.precision)
    settings = settings_of(candidate, effort)
    judged = max(settings, key=lambda setting: (setting.threads, -setting.streams))
    try:
        step(f"{candidate.name}: building")
        build = contestant.build()
        step(f"{candidate.name}: comparing with {asked.reference}")
        scores = contestant.scores(asked.pixels, judged)
        fidelity = judge(candidate, scores, asked, limits)
        fidelity.check(limits)
        # An engine for another setting is another compilation, which may be at fault where the first was not.
        others = [setting for setting in settings if setting != judged]
        pixels, expected = asked.pixels[:_COMPARED], scores[:_COMPARED]
        inconsistent = [each for each in others if not _alike(contestant.scores(pixels, each), expected)]
    except FAILURES as failure:
        return Trial(candidate, build, fidelity, reason_of(failure))
    reservation = reservation_of(candidate, evidence, effort.accept_weak_gate)
    undecided = candidate.precision == "int8" and fidelity.decisive_images < _ENOUGH_DECISIVE
    if undecided and not (reservation or candidate.is_published or effort.accept_weak_gate):
        reservation = f"weak gate: the reference is decided on {fidelity.decisive_images} images only"
    return Trial(candidate, build, fidelity, reservation=reservation, inconsistent=inconsistent)


def settings_of(candidate: Candidate, effort: Effort) -> tuple[Setting, ...]:
    """How many cores the candidate is timed with."""
    return settings_for(
        candidate.device, effort.cores or usable_cores(), candidate.has_streams and effort.tries_streams
    )


def _alike(scores: Probabilities, expected: Probabilities) -> bool:
    return np.allclose(scores, expected, rtol=0, atol=_SAME)


def judge(candidate: Candidate, scores: Probabilities, evidence: Evidence, limits: Limits) -> Fidelity:
    """Compares answers with eager fp32's on the same pixels, and accuracy with its library's own pipeline's."""
    # Noise drives int8 out of the range that images have shown it, which says nothing about images.
    shown = evidence.photos if candidate.precision == "int8" and evidence.photos else len(evidence.pixels)
    fidelity = compare(evidence.expected[:shown], scores[:shown], limits.gap, evidence.independent)
    return dataclasses.replace(
        fidelity,
        labelled_images=int((evidence.labels >= 0).sum()),
        accuracy=accuracy(scores, evidence.labels),
        reference_accuracy=evidence.reference_accuracy,
        reference=evidence.reference,
    )
