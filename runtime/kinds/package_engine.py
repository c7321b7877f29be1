"""Objects of packages as engines. For a process of its own: loading one runs its code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.networks.programs import PACKAGE
from models.packages import PackagedObject
from runtime.kinds.tensor_engine import TensorEngine, facts_of, options_in_child


def load_in_child(file: str, pickle: Sequence[str], options: Mapping[str, Any]) -> TensorEngine:
    """What a recipe names.

    Args:
        file: of the package.
        pickle: module and file of the object in it that is called.
        options: of EngineOptions.

    Raises:
        EngineError: it does not load, or its device is not here; one line that names the file.
    """
    module, name = pickle
    facts = facts_of(Path(file), PACKAGE, options_in_child(options))
    return TensorEngine(PackagedObject(file, module, name, facts.spec.device), facts, keeps_inputs=True)
