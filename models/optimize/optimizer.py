"""From weights to a bundle: build the candidates, prove them, time them, keep the fastest."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.bundle import ModelBundle
from models.engines import load_engine
from models.engines.base import EngineOptions, Probabilities
from models.errors import ModelError
from models.optimize.candidates import Candidate, Job
from models.optimize.destination import move_into_place, workshop
from models.optimize.errors import FidelityError, OptimizeError
from models.optimize.fidelity import (
    LIMITS,
    Fidelity,
    check_preprocessing,
    compare,
    engine_scores,
    reference_scores,
)
from models.optimize.machine import built_with
from models.optimize.pictures import SAMPLES, load_pictures, synthetic_pixels
from models.optimize.report import Report
from models.optimize.timing import BATCH_SIZES, images_per_second, measure_latency
from models.optimize.weights import Weights
from models.preprocess import Pixels, Preprocessor
from models.spec import ModelSpec

LABELS_FILE = "labels.json"


@dataclass(frozen=True)
class Effort:
    """How thoroughly to look.

    Attributes:
        synthetic: generated pictures beside the photos.
        rounds: measurements per batch size.
    """

    synthetic: int = 32
    rounds: int = 7


QUICK = Effort(synthetic=8, rounds=2)


@dataclass(frozen=True)
class Trial:
    """A candidate that was built, or the reason why it is out.

    Attributes:
        candidate: what was tried.
        bundle: in the workshop; None when it could not be built or was refused.
        fidelity: None when it could not be built.
        refusal: one line, or "".
    """

    candidate: Candidate
    bundle: ModelBundle | None = None
    fidelity: Fidelity | None = None
    refusal: str = ""

    @property
    def speed(self) -> float:
        """Images per second at the best batch size; 0 for one that is out."""
        return images_per_second(dict(self.bundle.spec.latency_ms)) if self.bundle else 0.0


@dataclass(frozen=True)
class Evidence:
    """The same pictures, prepared once, and what the reference says about them.

    Attributes:
        pixels: uint8 [N, crop_size, crop_size, 3].
        expected: float32 [N, num_classes].
    """

    pixels: Pixels
    expected: Probabilities


def optimize(
    weights: Weights,
    candidates: Sequence[Candidate],
    output: Path,
    report: Report,
    pictures: Path | None = None,
    effort: Effort = Effort(),  # frozen
    threads: int = 0,
) -> ModelBundle:
    """Writes the fastest candidate that answers like the reference to `output`.

    Args:
        weights: the classifier.
        candidates: at least one; all run on this machine.
        output: free, or a bundle that is replaced once the new one is whole.
        report: told about the progress and the outcome.
        pictures: folder of photos to compare on; None is the repository's.
        effort: how many pictures and rounds.
        threads: intra-op threads; 0 leaves torch's choice.

    Raises:
        FidelityError: no candidate answers like the reference.
        OptimizeError: no candidate could be built.
    """
    if threads:
        torch.set_num_threads(threads)
    with report.progress(2 + len(candidates) * (effort.rounds + 3)), workshop(output) as folder:
        evidence = gather_evidence(weights, pictures or SAMPLES, effort, report)
        trials = [
            try_candidate(candidate, weights, evidence, folder, report, effort, threads)
            for candidate in candidates
        ]
        best = max(trials, key=lambda trial: trial.speed)
        if best.bundle is None:
            raise _verdict(trials)
        move_into_place(best.bundle.file.parent, output)
    bundle = ModelBundle.load(output)
    report.outcome(output, bundle.spec, trials)
    return bundle


def gather_evidence(weights: Weights, folder: Path, effort: Effort, report: Report) -> Evidence:
    """Prepares the pictures, checks their preparation and asks the reference. Raises FidelityError."""
    preprocessor = Preprocessor(weights.preprocess)
    report.step("preparing pictures")
    photos = load_pictures(folder, preprocessor)
    check_preprocessing(weights, preprocessor, photos)
    pixels = synthetic_pixels(weights.preprocess.crop_size, effort.synthetic)
    pixels = np.stack([*(preprocessor.crop(photo) for photo in photos), *pixels])
    report.step(f"asking eager fp32 about {len(pixels)} pictures")
    return Evidence(pixels, reference_scores(weights, pixels))


def try_candidate(
    candidate: Candidate,
    weights: Weights,
    evidence: Evidence,
    workshop_folder: Path,
    report: Report,
    effort: Effort,
    threads: int,
) -> Trial:
    """Builds one candidate as a bundle of its own, and times it if it passes."""
    folder = workshop_folder / candidate.name
    folder.mkdir()
    fidelity = None
    try:
        report.step(f"{candidate.name}: building")
        bundle = _build(candidate, weights, folder)
        options = EngineOptions(candidate.device, threads, max(BATCH_SIZES))
        engine = load_engine(bundle, options)
        report.step(f"{candidate.name}: comparing with eager fp32")
        fidelity = compare(evidence.expected, engine_scores(engine, evidence.pixels))
        fidelity.check(LIMITS[candidate.precision])
        report.step(f"{candidate.name}: timing batches of {BATCH_SIZES[0]} to {BATCH_SIZES[-1]}")
        latency = measure_latency(
            engine, weights.preprocess.crop_size, rounds=effort.rounds, on_round=report.advance
        )
        engine.close()
    except ModelError as error:
        return Trial(candidate, None, fidelity, str(error))
    spec = dataclasses.replace(
        bundle.spec, fidelity=fidelity.to_json(), latency_ms=latency, built_with=built_with()
    )
    return Trial(candidate, ModelBundle.write(folder, spec, bundle.labels), fidelity)


def _build(candidate: Candidate, weights: Weights, folder: Path) -> ModelBundle:
    job = Job(weights.network(), weights.preprocess, max(BATCH_SIZES))
    spec = ModelSpec(
        name=weights.architecture,
        architecture=weights.architecture,
        num_classes=len(weights.labels),
        labels=LABELS_FILE,
        preprocess=weights.preprocess,
        engine=candidate.build(job, folder),
        source=weights.source,
    )
    return ModelBundle.write(folder, spec, weights.labels)


def _verdict(trials: Sequence[Trial]) -> OptimizeError:
    kind = FidelityError if any(trial.fidelity for trial in trials) else OptimizeError
    return kind("; ".join(f"{trial.candidate.name}: {trial.refusal}" for trial in trials))
