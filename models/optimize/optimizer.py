"""From weights to a bundle: build the candidates, prove them, time them, keep the fastest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from models.bundles.bundle import ModelBundle
from models.bundles.spec import WEIGHTS_ENGINE, EngineSpec, ModelSpec
from models.bundles.table import TABLE_FILE
from models.machine.resources import built_with, usable_memory
from models.optimize.budget import Budget
from models.optimize.candidates import Candidate, Job
from models.optimize.contestant import LABELS_FILE
from models.optimize.destination import move_into_place, workshop
from models.optimize.effort import Effort
from models.optimize.errors import FidelityError, Interrupted, OptimizeError
from models.optimize.evidence import gather
from models.optimize.groups import at_once, groups
from models.optimize.image_set import ImageSet
from models.optimize.interrupts import held_interrupts
from models.optimize.label_order import check_label_order
from models.optimize.plot import draw
from models.optimize.report import Report
from models.optimize.search import Search
from models.optimize.timing import CPU_BATCH_SIZES, CUDA_BATCH_SIZES
from models.optimize.trial import Trial
from models.optimize.weights import Weights

PLOT_FILE = "table.svg"
_USUAL = Effort()
_FOR_EVIDENCE_SHARE = 0.5  # of the budget, the import of torch and a download included


def optimize(
    weights: Weights,
    candidates: Sequence[Candidate],
    output: Path,
    report: Report,
    images: ImageSet,
    effort: Effort = _USUAL,
    budget: Budget | None = None,
) -> ModelBundle:
    """Writes the fastest candidate that answers like the reference to `output`, the others beside it.

    After Ctrl-C, or when the budget is spent, it writes what is finished, if that can be served.

    Args:
        weights: the classifier.
        candidates: at least one; all run on this machine.
        output: free, or a bundle that is replaced once the new one is whole.
        report: told about the progress and the outcome.
        images: to calibrate on and to judge by.
        effort: how many measurements.
        budget: how much time.

    Raises:
        FidelityError: no candidate answers like the reference, or images are not prepared as its library does.
        OptimizeError: no candidate could be built.
        UsageError: the photos show that the labels are in another order than the model's outputs.
        Interrupted: Ctrl-C; a bundle is written.
        KeyboardInterrupt: Ctrl-C before anything was finished; nothing is written.
    """
    budget = budget or Budget()
    candidates = [each for each in candidates if weights.published or not each.is_published]
    sizes = effort.batch_sizes or (CUDA_BATCH_SIZES if candidates[0].device == "cuda" else CPU_BATCH_SIZES)
    parts = _groups(candidates, weights, report, effort)
    steps = 1 + 3 * len(candidates) + len(parts) * effort.rounds
    interrupted = False
    with report.progress(steps), workshop(output) as folder:
        report.step(f"asking {weights.reference} about {len(images.photos) + len(images.synthetic)} images")
        evidence = gather(weights, images, _is_enough(budget))
        answers = evidence.end_to_end.argmax(axis=1)
        check_label_order(answers, evidence.labels[: len(answers)], weights.labels)
        job = Job(
            *(weights.network(), weights.preprocess, sizes, evidence.calibration, weights.published),
            weights.activation,
        )
        search = Search(weights, evidence, job, folder, report, effort, budget)
        try:
            search.run(parts)
        except KeyboardInterrupt:
            if search.winner is None:
                raise
            interrupted = True
        if search.winner is None:
            raise _verdict(search.trials)
        with held_interrupts() as held:
            bundle = _assemble(folder, weights, search.trials, search.winner, sizes)
            move_into_place(bundle.file.parent, output)
        interrupted = interrupted or held.is_set()
    bundle = ModelBundle.load(output)
    report.outcome(output, bundle.spec, search.trials, search.winner)
    if interrupted:
        raise Interrupted(f"interrupted; {output} has what was finished")
    return bundle


def _is_enough(budget: Budget) -> Callable[[], bool]:
    """Whether the reference's answers have taken their part of the time."""
    return lambda: budget.spent > _FOR_EVIDENCE_SHARE * budget.seconds


def _groups(
    candidates: Sequence[Candidate], weights: Weights, report: Report, effort: Effort
) -> list[Sequence[Candidate]]:
    """Those that are in memory at the same time; says so where that is not all of them."""
    parts = groups(candidates, effort.at_once or at_once(weights.nbytes, usable_memory()))
    if len(parts) > 1:
        most = max(map(len, parts))
        report.note(f"in groups, to save memory: at most {most} of {len(candidates)} candidates at a time")
    return parts


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
        name=weights.name or weights.architecture.rpartition("/")[2],
        architecture=weights.architecture,
        architecture_options=weights.options,
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
