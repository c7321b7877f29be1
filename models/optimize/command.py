"""The command line of the optimiser: exit codes, and nothing slow before it is needed."""

from __future__ import annotations

import dataclasses
import math
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console

from models.bundles.bundle import MANIFEST, ModelBundle
from models.bundles.spec import WEIGHTS_ENGINE
from models.engines.compatibility import misfit
from models.errors import BundleError, ModelError
from models.machine.process import prepare_process
from models.optimize.archive_source import ArchiveSource, opened
from models.optimize.budget import Budget
from models.optimize.choice import AUTO, AUTOMATIC, WeightsChoice, needs_timm
from models.optimize.destination import check_replaceable
from models.optimize.errors import UsageError
from models.optimize.isolation import prepare
from models.optimize.options import OptimizeOptions, parse

if TYPE_CHECKING:
    from models.optimize.candidates import Candidate
    from models.optimize.effort import Effort
    from models.optimize.image_set import EncodedImage, ImageSet
    from models.optimize.recipes import Recipe
    from models.optimize.weights import Weights

_IMAGES = 1024
_CALIBRATION = 128
_SHORT_CALIBRATION = 64
_PRELOADED, _PRELOADED_TIMM = "models.optimize.preloaded", "models.optimize.preloaded_timm"
_AS_IN_THE_BUNDLE: Any = {
    "weights": "default",
    "checkpoint": None,
    "checkpoint_key": "",
    "from_": None,
    "labels": None,
    "preprocess": None,
    "activation": "auto",
    "num_classes": 0,
}
_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: list[str] | None = None) -> int:
    """Runs the optimiser.

    Returns:
        0 a bundle is there, 1 the model cannot be optimised, 2 wrong use, 3 no weights could be downloaded.
    """
    prepare_process()
    try:
        options = parse(arguments, os.environ)
        return run(options, Budget(options.budget_s or math.inf))
    except ModelError as error:
        print(f"optimize_model_for_inference.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("optimize_model_for_inference.py: interrupted, nothing was written", file=sys.stderr)
        return _INTERRUPTED


def run(options: OptimizeOptions, budget: Budget) -> int:
    """Does what `options` say and returns 0; raises ModelError otherwise."""
    console = Console()
    for each in _destinations(options):
        existing = _existing(each)
        if existing is None and (each.folder / MANIFEST).exists() and options.arch == AUTO:
            options = dataclasses.replace(each, output=each.folder)  # damaged, and the server would take it
            break
        if existing is None:
            continue
        reason = misfit(existing.spec)
        if not reason:
            facts = f"{existing.spec.name}, {existing.spec.engine.precision}, {existing.spec.engine.device}"
            print(f"{each.folder}: is there already ({facts}); --force builds it anew")
            return 0
        print(f"{each.folder}: {reason}; it is built anew")
        options = each
        if WEIGHTS_ENGINE in existing.spec.engines and not each.brings_program:
            options = dataclasses.replace(each, **_AS_IN_THE_BUNDLE, bundle=each.folder, output=each.folder)
        break
    # A damaged bundle is as good as a missing one.
    if options.arch != AUTO or options.output or options.bundle:
        check_replaceable(options.folder, force=options.force or options.if_missing)
    with opened(options.archive, options.allow_code) as archive:
        prepare(*([_PRELOADED_TIMM] if needs_timm(options.arch) else []), _PRELOADED)
        with console.status("Loading torch"):
            import models.optimize.optimizer  # noqa: F401  # 2 to 8 seconds
        _optimize(options, archive, budget, console)
    return 0


def _destinations(options: OptimizeOptions) -> list[OptimizeOptions]:
    """The same, with each architecture that "auto" stands for."""
    if options.arch != AUTO:
        return [options]
    return [dataclasses.replace(options, arch=architecture) for architecture in AUTOMATIC]


def _existing(options: OptimizeOptions) -> ModelBundle | None:
    if not options.if_missing or options.force:
        return None
    try:
        return ModelBundle.load(options.folder)
    except BundleError:
        return None


def _optimize(options: OptimizeOptions, archive: ArchiveSource | None, budget: Budget, console: Console) -> None:
    from models.optimize.optimizer import optimize
    from models.optimize.report import Report
    from models.optimize.sources import resolve

    device = _device(options)
    if options.from_ is None and options.bundle is None:
        _candidates(options, device)  # a wrong name is told before a download
    report = Report(console)
    if options.weights == "none":
        report.warn_random()
    choice = WeightsChoice(
        architecture=options.arch,
        weights=options.weights,
        checkpoint=options.checkpoint,
        checkpoint_key=options.checkpoint_key,
        activation=options.activation,
        bundle=options.bundle,
        labels=options.labels,
        preprocess=options.preprocess,
        num_classes=options.num_classes,
        seed=options.seed,
        url_base=options.weights_url_base,
        device=device,
        program=options.program,
        folder=None if options.brings_program else options.from_,
        output_name=options.output_name,
        archive=archive,
    )
    weights = resolve(choice, console)
    candidates = _candidates(options, device, weights.source_kind)
    if options.arch == AUTO and not options.bundle:
        options = dataclasses.replace(options, arch=weights.name or weights.architecture)
        check_replaceable(options.folder, force=options.force or options.if_missing)
    recipe = _recipe(options, weights)
    images, effort = _images(options, weights, recipe), _effort(options, weights, recipe)
    bundle = optimize(weights, candidates, options.folder, report, images, effort, budget)
    if recipe and bundle.spec.engine.precision == "int8":
        report.note(recipe.describe(bundle.spec.fidelity["images"]))


def _device(options: OptimizeOptions) -> str:
    from models.optimize.candidates.torchscript import has_cuda

    if options.device != "auto":
        return options.device
    return "cuda" if has_cuda() and not options.brings_program else "cpu"


def _candidates(options: OptimizeOptions, device: str, source: str = "network") -> list[Candidate]:
    """Those that are asked for, of what can be built from `source` (`Weights.source_kind`)."""
    from models.optimize.candidates import candidates_for

    device = device if source == "network" or options.device != "auto" else "cpu"
    if not (here := candidates_for(device, source)):
        raise UsageError(f"--device {device}: is not available on this machine, or not for a {source} model")
    if options.engine == "auto":
        return [each for each in here if not each.is_optional]
    names = [each.name for each in here]
    if options.engine not in names:
        raise UsageError(f"--engine {options.engine!r}: must be auto or one of {', '.join(names)}")
    return [each for each in here if each.name == options.engine or each.is_reference]


def _effort(options: OptimizeOptions, weights: Weights, recipe: Recipe | None) -> Effort:
    from models.optimize import recipes
    from models.optimize.effort import Effort
    from models.optimize.fidelity import LIMITS

    drop = options.max_accuracy_drop / 100
    limits = {name: dataclasses.replace(limits, accuracy_drop=drop) for name, limits in LIMITS.items()}
    limits["int8"] = dataclasses.replace(limits["int8"], top1_agreement=options.min_agreement / 100)
    if recipe:
        asked = options.min_agreement if options.min_agreement != type(options).min_agreement else 0.0
        strictest = max(recipes.LIMITS.top1_agreement, asked / 100)
        limits["int8"] = dataclasses.replace(recipes.LIMITS, top1_agreement=strictest)
    # What a file in half precision says itself is rounded as coarsely.
    limits["fp32"] = limits["fp32" if weights.precision == "fp64" else weights.precision]
    effort = Effort(
        cores=options.threads,
        accept_weak_gate=options.accept_weak_gate,
        limits=limits,
        at_once=options.at_once,
    )
    return dataclasses.replace(effort, batch_sizes=(1, 4, 16), tries_streams=False) if options.budget_s else effort


def _recipe(options: OptimizeOptions, weights: Weights) -> Recipe | None:
    """The project's own for these weights, unless there are images of the user's."""
    from models.optimize.recipes import recipe_for

    own = options.pictures or options.validation or options.calibration or options.preprocess
    return None if own else recipe_for(weights.source)


def _images(options: OptimizeOptions, weights: Weights, recipe: Recipe | None) -> ImageSet:
    from models.optimize.image_set import synthetic

    found = recipe.images() if recipe else _own_images(options, weights)
    extra = synthetic(weights.preprocess.resize_size, 8 if options.budget_s else 32)
    return dataclasses.replace(found, synthetic=extra)


def _own_images(options: OptimizeOptions, weights: Weights) -> ImageSet:
    from models.optimize.image_set import SAMPLES, ImageSet, deal, labelled, unlabelled

    if options.validation is not None:
        found = labelled(options.validation, weights.labels)
    else:
        found = unlabelled(options.pictures or SAMPLES)
    count = _SHORT_CALIBRATION if options.budget_s else _CALIBRATION
    own: Sequence[EncodedImage] = ()
    if options.calibration is not None:
        own, _ = deal(unlabelled(options.calibration), count, 0, share=1)
    calibration, photos = deal(found, 0 if own else count, options.max_images or _IMAGES, own)
    return ImageSet(own or calibration, photos)
