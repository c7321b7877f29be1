"""`compare A B --pictures FOLDER`: do two bundles answer alike?"""

from __future__ import annotations

from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from models.bundles.bundle import ModelBundle
from models.commands import Subparsers
from models.errors import BundleError, ImageError

if TYPE_CHECKING:
    from models.engines.base import Probabilities
    from models.optimize.fidelity import Fidelity


def add_parser(subparsers: Subparsers) -> None:
    """Adds `compare` to the command line."""
    parser = subparsers.add_parser("compare", help="compare the predictions of two bundles")
    parser.add_argument("a", type=Path, metavar="A", help="folder of the reference bundle")
    parser.add_argument("b", type=Path, metavar="B", help="folder of the other bundle")
    parser.add_argument(
        "--pictures", type=Path, required=True, metavar="FOLDER", help="folder of JPEG, PNG and WebP files"
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="device that both run on [auto]"
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Prints the table; each bundle prepares the images in its own way, as it would when served."""
    a, b = ModelBundle.load(arguments.a), ModelBundle.load(arguments.b)
    if a.labels != b.labels:
        raise BundleError(f"{arguments.a} and {arguments.b} have different labels")
    from models.optimize.fidelity import compare

    expected, actual = (_scores(bundle, arguments.pictures, arguments.device) for bundle in (a, b))
    Console().print(_table(arguments, compare(expected, actual)))
    return 0


def _scores(bundle: ModelBundle, folder: Path, device: str) -> Probabilities:
    import numpy as np

    from models.engines import load_engine
    from models.engines.base import EngineOptions
    from models.images.preprocess import Preprocessor
    from models.optimize.contestant import engine_scores
    from models.optimize.image_set import unlabelled

    preprocessor = Preprocessor(bundle.spec.preprocess)
    pixels = []
    for found in unlabelled(folder):
        with suppress(ImageError):
            pixels.append(preprocessor(found.file.read_bytes()))
    if not pixels:
        raise BundleError(f"--pictures {folder}: no JPEG, PNG or WebP file there")
    engine = load_engine(bundle, EngineOptions(device))
    scores = engine_scores(engine, np.stack(pixels))
    engine.close()
    return scores


def _table(arguments: Namespace, result: Fidelity) -> Table:
    table = Table("measure", "value", title=f"{arguments.b} against {arguments.a}")
    table.add_row("images", str(result.images))
    table.add_row("with a clear winner", str(result.decisive_images))
    table.add_row("top-1 agreement", f"{result.top1_agreement:.2%}")
    table.add_row("largest difference of scores", f"{result.max_abs_diff:.3g}")
    table.add_row("largest relative difference of the best scores", f"{result.max_relative_diff:.3g}")
    return table
