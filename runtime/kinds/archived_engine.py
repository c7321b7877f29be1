"""The network of an archive's own class as an engine. For a process of its own: loading runs the archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from models.archives.eager import load_network, make_importable
from models.bundles.bundle import ModelBundle
from models.bundles.spec import ModelSpec, spec_from_json
from models.engines.bare_torchscript import engine_of
from models.engines.bare_way import Opened
from models.engines.base import EngineOptions
from models.engines.torchscript import resolve
from runtime.kinds.image_classifier import CheckedEngine


def load_in_child(
    spec: Mapping[str, Any], folder: str, model_file: str, packages: str, options: Mapping[str, Any]
) -> CheckedEngine:
    """What a recipe names.

    Args:
        spec: of ModelSpec; its engine's file is the state dict.
        folder: of the unpacked archive.
        model_file: with the network's class.
        packages: folder of the packages that it needs; "" for none.
        options: of EngineOptions.

    Raises:
        ModelError: it does not load.
    """
    given = EngineOptions(**{**options, "frequent": tuple(options["frequent"])})
    if given.intra_op_threads:
        torch.set_num_threads(given.intra_op_threads)
    known = spec_from_json(ModelSpec, spec, folder)
    bundle = ModelBundle(known, (), Path(folder, known.engine.file))
    resolved = resolve(bundle, given)
    make_importable(Path(folder), Path(packages) if packages else None)
    network = load_network(Path(folder), model_file, known.engine.file, resolved.device)
    return CheckedEngine(engine_of(Opened(network), bundle, resolved))
