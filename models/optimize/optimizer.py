"""From weights to a bundle: build the candidates, prove them, time them, keep the fastest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.bundle import ModelBundle
from models.engines.base import Probabilities
from models.errors import ModelError
from models.machine import built_with, usable_cores, usable_memory
from models.optimize.candidates import Candidate, Job
from models.optimize.contestant import LABELS_FILE, Contestant, Setting
from models.optimize.destination import move_into_place, workshop
from models.optimize.errors import FidelityError, OptimizeError
from models.optimize.evidence import Evidence, accuracy, gather
from models.optimize.fidelity import LIMITS, PUBLISHED, Fidelity, Limits, compare
from models.optimize.groups import at_once, groups
from models.optimize.isolation import died, isolated
from models.optimize.label_order import check_label_order
from models.optimize.pictures import Picture
from models.optimize.plot import draw
from models.optimize.report import Report
from models.optimize.timing import CPU_BATCH_SIZES, CUDA_BATCH_SIZES, Speed, measure, settings_for
from models.optimize.trial import Trial, reservation_of
from models.optimize.weights import Weights
from models.spec import WEIGHTS_ENGINE, EngineSpec, ModelSpec
from models.table import TABLE_FILE

PLOT_FILE = "table.svg"
_COMPARED = 64  # pictures that all settings of a candidate are asked about
_SAME = 0.01  # of a score; bf16 adds up differently with other threads


@dataclass(frozen=True)
class Effort:
    """How thoroughly to look.

    Attributes:
        rounds: measurements per batch size.
        batch_sizes: that are timed; empty takes those of the device.
        cores: most threads; 0 takes all cores.
        accept_weak_gate: choose int8 on the word of few pictures.
        limits: by precision, instead of the defaults.
        is_isolated: give each candidate a process of its own.
        at_once: most candidates that are in memory at the same time; 0: as many as fit.
    """

    rounds: int = 7
    batch_sizes: tuple[int, ...] = ()
    cores: int = 0
    accept_weak_gate: bool = False
    limits: Mapping[str, Limits] = dataclasses.field(default_factory=lambda: LIMITS)
    is_isolated: bool = True
    at_once: int = 0


@dataclass(frozen=True)
class Pictures:
    """What candidates are calibrated on and judged by; no picture is in two of these."""

    calibration: Sequence[Picture] = ()
    photos: Sequence[Picture] = ()
    synthetic: Sequence[Picture] = ()


def optimize(
    weights: Weights,
    candidates: Sequence[Candidate],
    output: Path,
    report: Report,
    pictures: Pictures,
    effort: Effort = Effort(),  # frozen
) -> ModelBundle:
    """Writes the fastest candidate that answers like the reference to `output`, the others beside it.

    Args:
        weights: the classifier.
        candidates: at least one; all run on this machine.
        output: free, or a bundle that is replaced once the new one is whole.
        report: told about the progress and the outcome.
        pictures: to calibrate on and to judge by.
        effort: how many measurements.

    Raises:
        FidelityError: no candidate answers like the reference, or pictures are not prepared as torchvision does.
        OptimizeError: no candidate could be built.
        UsageError: the photos show that the labels are in another order than the model's outputs.
    """
    candidates = [each for each in candidates if weights.published or not each.is_published]
    sizes = effort.batch_sizes or (CUDA_BATCH_SIZES if candidates[0].device == "cuda" else CPU_BATCH_SIZES)
    parts = _groups(candidates, weights, report, effort)
    steps = 1 + 2 * len(candidates) + len(parts) * (effort.rounds + 1)
    with report.progress(steps), workshop(output) as folder:
        report.step(f"asking {weights.reference} about {len(pictures.photos) + len(pictures.synthetic)} pictures")
        evidence = gather(weights, pictures.calibration, pictures.photos, pictures.synthetic)
        check_label_order(evidence.end_to_end.argmax(axis=1), evidence.labels, weights.labels)
        job = Job(
            *(weights.network(), weights.preprocess, sizes, evidence.calibration, weights.published),
            weights.activation,
        )
        trials: list[Trial] = []
        for part in parts:
            with ExitStack() as stack:
                contestants = {
                    each.name: stack.enter_context(_contestant(each, job, weights, folder, effort))
                    for each in part
                }
                judged = [_judge(each, contestants[each.name], evidence, report, effort) for each in part]
                trials += _time(judged, contestants, sizes, report, effort)
        winner = max(trials, key=lambda trial: trial.peak if trial.is_eligible else 0.0)
        if not winner.is_eligible:
            raise _verdict(trials)
        move_into_place(_assemble(folder, weights, trials, winner, sizes).file.parent, output)
    bundle = ModelBundle.load(output)
    report.outcome(output, bundle.spec, trials, winner)
    return bundle


def _groups(
    candidates: Sequence[Candidate], weights: Weights, report: Report, effort: Effort
) -> list[Sequence[Candidate]]:
    """Those that are in memory at the same time; says so where that is not all of them."""
    parts = groups(candidates, effort.at_once or at_once(weights.nbytes, usable_memory()))
    if len(parts) > 1:
        most = max(map(len, parts))
        report.note(f"in groups, to save memory: at most {most} of {len(candidates)} candidates at a time")
    return parts


def _contestant(
    candidate: Candidate, job: Job, weights: Weights, workshop_folder: Path, effort: Effort
) -> AbstractContextManager[Contestant]:
    folder = workshop_folder / candidate.name
    folder.mkdir()
    arguments = (candidate, job, weights.architecture, weights.labels, folder)
    return isolated(Contestant, *arguments) if effort.is_isolated else nullcontext(Contestant(*arguments))


def _judge(
    candidate: Candidate, contestant: Contestant, evidence: Evidence, report: Report, effort: Effort
) -> Trial:
    """Builds a candidate and compares its answers with the reference's."""
    build, fidelity = None, None
    try:
        report.step(f"{candidate.name}: building")
        build = contestant.build()
        report.step(f"{candidate.name}: comparing with {evidence.reference}")
        settings = _settings(candidate, effort)
        judged = max(settings, key=lambda setting: (setting.threads, -setting.streams))
        scores = contestant.scores(evidence.pixels, judged)
        fidelity = judge(candidate, scores, evidence)
        fidelity.check(PUBLISHED if candidate.is_published else effort.limits[candidate.precision])
        # An engine for another setting is another compilation, which may be at fault where the first was not.
        some = slice(_COMPARED)
        inconsistent = [
            setting
            for setting in settings
            if setting != judged
            and not np.allclose(
                contestant.scores(evidence.pixels[some], setting), scores[some], rtol=0, atol=_SAME
            )
        ]
    except ModelError as error:
        return Trial(candidate, build, fidelity, str(error))
    except (EOFError, OSError):
        return Trial(candidate, build, fidelity, str(died()))
    reservation = reservation_of(candidate, evidence, effort.accept_weak_gate)
    return Trial(candidate, build, fidelity, reservation=reservation, inconsistent=inconsistent)


def _settings(candidate: Candidate, effort: Effort) -> tuple[Setting, ...]:
    return settings_for(candidate.device, effort.cores or usable_cores(), candidate.has_streams)


def judge(candidate: Candidate, scores: Probabilities, evidence: Evidence) -> Fidelity:
    """Compares answers with eager fp32's on the same pixels, and accuracy with torchvision's own pipeline's."""
    # Noise drives int8 out of the range that pictures have shown it, which says nothing about pictures.
    shown = evidence.photos if candidate.precision == "int8" and evidence.photos else len(evidence.pixels)
    fidelity = compare(evidence.expected[:shown], scores[:shown])
    return dataclasses.replace(
        fidelity,
        labelled_images=int((evidence.labels >= 0).sum()),
        accuracy=accuracy(scores, evidence.labels),
        reference_accuracy=accuracy(evidence.end_to_end, evidence.labels),
        reference=evidence.reference,
    )


def _time(
    trials: Sequence[Trial],
    contestants: Mapping[str, Contestant],
    sizes: tuple[int, ...],
    report: Report,
    effort: Effort,
) -> list[Trial]:
    """Adds the speeds of those that passed."""

    def on_round(number: int) -> None:
        report.step(f"timing batches of {sizes[0]} to {sizes[-1]}, round {number} of {effort.rounds}")

    speeds: dict[str, list[Speed]] = measure(
        {
            trial.name: (
                contestants[trial.name],
                [each for each in _settings(trial.candidate, effort) if each not in trial.inconsistent],
            )
            for trial in trials
            if not trial.refusal
        },
        sizes,
        effort.rounds,
        on_round,
    )
    return [dataclasses.replace(trial, speeds=speeds.get(trial.name, ())) for trial in trials]


def _assemble(
    workshop_folder: Path, weights: Weights, trials: Sequence[Trial], winner: Trial, sizes: tuple[int, ...]
) -> ModelBundle:
    """Puts the winner and everything else that passed into one bundle, with the table."""
    folder = workshop_folder / "bundle"
    folder.mkdir()
    engines = {}
    for trial in trials:
        if trial.speed and trial.build:
            for name in (trial.build.engine.file, *trial.build.engine.companions):
                shutil.move(workshop_folder / trial.name / name, folder / name)
            engines[trial.name] = _settled(trial, max(sizes))
    engines[WEIGHTS_ENGINE] = weights.portable_engine(engines, folder, max(sizes))
    machine = built_with()
    table = {"winner": winner.name, "built_with": machine, "candidates": [trial.to_json() for trial in trials]}
    (folder / TABLE_FILE).write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")
    draw(folder / PLOT_FILE, weights.name or weights.architecture, trials)
    assert winner.speed and winner.fidelity
    spec = ModelSpec(
        name=weights.name or weights.architecture,
        architecture=weights.architecture,
        num_classes=len(weights.labels),
        labels=LABELS_FILE,
        preprocess=weights.preprocess,
        activation=weights.activation,
        engine=engines[winner.name],
        engines=engines,
        source=weights.source,
        fidelity=winner.fidelity.to_json(),
        latency_ms={str(size): round(ms, 3) for size, ms in winner.speed.latency_ms.items()},
        built_with=machine,
        example=weights.example or ModelSpec.example,
    )
    return ModelBundle.write(folder, spec, weights.labels)


def _settled(trial: Trial, max_batch_size: int) -> EngineSpec:
    assert trial.build and trial.speed
    threads, streams = trial.speed.setting
    if trial.candidate.device == "cuda":
        threads = 0
    return dataclasses.replace(trial.build.engine, threads=threads, streams=streams, max_batch_size=max_batch_size)


def _verdict(trials: Sequence[Trial]) -> OptimizeError:
    kind = FidelityError if any(trial.fidelity for trial in trials) else OptimizeError
    return kind("; ".join(f"{trial.name}: {trial.refusal or trial.reservation}" for trial in trials))
