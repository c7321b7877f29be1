"""What the protocol tells of the server and its models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from runtime.errors import ModelLoading, NoWorkers
from runtime.model import IMAGE_CLASSIFIER, ModelFacts
from runtime.signature import ANY, TensorSpec
from runtime.store import ModelStore
from runtime.version_status import VersionStatus
from snapserve import __version__

EXTENSIONS = ("binary_tensor_data", "classification", "model_repository", "model_configuration", "statistics")
_PLATFORMS = {"torchscript": "pytorch_torchscript", "torch.export": "pytorch_export"}
_CONFIG_TYPES = {"BYTES": "TYPE_STRING", ANY: "TYPE_INVALID"}


def server_document() -> dict[str, Any]:
    """Of the server."""
    return {"name": "snapserve", "version": __version__, "extensions": EXTENSIONS}


def platform_of(facts: ModelFacts) -> str:
    """What kind of program a model is."""
    if facts.kind == IMAGE_CLASSIFIER:
        return "snapserve_image_classifier"
    return _PLATFORMS.get(facts.architecture, f"snapserve_{facts.kind.replace('-', '_')}")


def model_document(facts: ModelFacts, versions: Sequence[str]) -> dict[str, Any]:
    """Of a model; what is not known of a tensor is "ANY" and [-1].

    Args:
        facts: of the version that was asked for.
        versions: of the model.
    """
    return {
        "name": facts.name,
        "versions": versions,
        "platform": platform_of(facts),
        "inputs": [_tensor(each) for each in facts.inputs],
        "outputs": [_tensor(each) for each in facts.outputs],
    }


def largest_batch(facts: ModelFacts) -> int:
    """Triton's `max_batch_size`: 0 where the shapes of tensors have no dimension of a batch."""
    return facts.max_batch_size if facts.max_batch_size > 1 or facts.kind == IMAGE_CLASSIFIER else 0


def config_document(facts: ModelFacts) -> dict[str, Any]:
    """Triton's configuration of a model, as far as its clients read it."""
    most = largest_batch(facts)
    return {
        "name": facts.name,
        "platform": platform_of(facts),
        "backend": "snapserve",
        "max_batch_size": most,
        "input": [{**_config_tensor(each, most), "format": "FORMAT_NONE"} for each in facts.inputs],
        "output": [_config_tensor(each, most) for each in facts.outputs],
    }


def config_type(datatype: str) -> str:
    """Triton's name of a datatype in a configuration."""
    return _CONFIG_TYPES.get(datatype, f"TYPE_{datatype}")


def dims_of(spec: TensorSpec, batch: int) -> list[int]:
    """The shape of a tensor without its dimension of the batch."""
    shape = spec.shape or (-1,)
    return list(shape[1:] or (1,)) if batch else list(shape)


def index_of(store: ModelStore) -> list[dict[str, str]]:
    """The index of the repository; a version that is loaded on first use is ready."""
    return [_index_entry(store, each) for each in store.status()]


def _index_entry(store: ModelStore, status: VersionStatus) -> dict[str, str]:
    named = {"name": status.name, "version": status.version}
    try:
        store.awake(status.name, status.version)
        store.peek(status.name, status.version)
    except ModelLoading:
        return {**named, "state": "LOADING"}
    except NoWorkers as error:
        return {**named, "state": "UNAVAILABLE", "reason": str(error)}
    return {**named, "state": "READY"}


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": [-1] if spec.shape is None else spec.shape}


def _config_tensor(spec: TensorSpec, batch: int) -> dict[str, Any]:
    return {"name": spec.name, "data_type": config_type(spec.datatype), "dims": dims_of(spec, batch)}
