"""The command line of the optimiser: exit codes, and nothing slow before it is needed."""

from __future__ import annotations

import os
import sys

from rich.console import Console

from models.bundle import ModelBundle
from models.errors import BundleError, ModelError
from models.optimize.destination import check_replaceable
from models.optimize.errors import UsageError
from models.optimize.options import OptimizeOptions, parse

_INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main(arguments: list[str] | None = None) -> int:
    """Runs the optimiser.

    Returns:
        0 a bundle is there, 1 the model cannot be optimised, 2 wrong use, 3 no weights could be downloaded.
    """
    try:
        return run(parse(arguments, os.environ))
    except ModelError as error:
        print(f"optimize_model_for_inference.py: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 1)
    except KeyboardInterrupt:
        print("optimize_model_for_inference.py: interrupted, nothing was written", file=sys.stderr)
        return _INTERRUPTED


def run(options: OptimizeOptions) -> int:
    """Does what `options` say and returns 0; raises ModelError otherwise."""
    console = Console()
    existing = _existing(options)
    if existing is not None:
        facts = f"{existing.spec.name}, {existing.spec.engine.precision}, {existing.spec.engine.device}"
        print(f"{options.folder}: is there already ({facts}); --force builds it anew")
        return 0
    # A damaged bundle is as good as a missing one.
    check_replaceable(options.folder, force=options.force or options.if_missing)
    with console.status("Loading torch"):
        import models.optimize.optimizer  # noqa: F401  # 2 to 4 seconds
    _optimize(options, console)
    return 0


def _existing(options: OptimizeOptions) -> ModelBundle | None:
    if not options.if_missing or options.force:
        return None
    try:
        return ModelBundle.load(options.folder)
    except BundleError:
        return None


def _optimize(options: OptimizeOptions, console: Console) -> None:
    from models.optimize.candidates import candidates_for, has_cuda
    from models.optimize.optimizer import QUICK, Effort, optimize
    from models.optimize.report import Report
    from models.optimize.sources import WeightsChoice, resolve

    device = options.device if options.device != "auto" else ("cuda" if has_cuda() else "cpu")
    candidates = candidates_for(device)
    if not candidates:
        raise UsageError(f"--device {device}: is not available on this machine")
    if options.pictures is not None and not options.pictures.is_dir():
        raise UsageError(f"--pictures {options.pictures}: no such folder")
    report = Report(console)
    if options.weights == "none":
        report.warn_random()
    choice = WeightsChoice(
        architecture=options.arch,
        weights=options.weights,
        checkpoint=options.checkpoint,
        labels=options.labels,
        preprocess=options.preprocess,
        num_classes=options.num_classes,
        seed=options.seed,
        url_base=options.weights_url_base,
    )
    weights = resolve(choice, console)
    effort = QUICK if options.quick else Effort()
    optimize(weights, candidates, options.folder, report, options.pictures, effort, options.threads)
