"""`inspect BUNDLE`: verifies a bundle and shows its facts. Executes nothing of it and needs no torch."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.bundles.bundle import ModelBundle
from models.commands import Subparsers


def add_parser(subparsers: Subparsers) -> None:
    """Adds `inspect` to the command line."""
    parser = subparsers.add_parser("inspect", help="check the hashes of a bundle and print its manifest")
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="folder of the bundle")
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Prints the table; raises BundleError for a damaged bundle."""
    bundle = ModelBundle.load(arguments.bundle)
    table = Table("fact", "value", title=f"{escape(bundle.spec.name)}: files match their hashes")
    for name, value in facts(bundle):
        table.add_row(escape(name), escape(value))
    Console().print(table)
    return 0


def facts(bundle: ModelBundle) -> Iterator[tuple[str, str]]:
    """Everything in the manifest, flat, in its order: dotted name and text; then the labels."""
    document = bundle.spec.to_json()
    yield from _flat({**document, "engines": list(document["engines"])})
    yield "file size", f"{bundle.file.stat().st_size / 1e6:.1f} MB"
    yield "first labels", ", ".join(bundle.labels[:3])
    if bundle.spec.is_random:
        yield "WARNING", "RANDOM WEIGHTS: never trained, the labels mean nothing"


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
            yield f"{prefix}{name}", shown
