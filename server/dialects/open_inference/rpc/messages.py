"""Messages of gRPC <-> what is asked and answered, the same as over HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from runtime.model import ModelFacts
from runtime.signature import TensorSpec
from server.dialects.open_inference.datatypes import BYTES, DTYPES, check_datatype, check_shape
from server.dialects.open_inference.metadata import (
    EXTENSIONS,
    config_type,
    dims_of,
    largest_batch,
    model_document,
    platform_of,
)
from server.dialects.open_inference.request import (
    InferRequest,
    Wanted,
    check_names,
    check_no_shared_memory,
    classes_of,
)
from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.tensors import Tensor, from_bytes, from_values, shown, to_bytes
from server.http.faults import BadRequest
from snapserve import __version__

# Datatype -> the list that its elements are in; those that have none are sent as raw contents.
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    BYTES: "bytes_contents",
}


def request_of(message: pb.ModelInferRequest) -> InferRequest:
    """What a message asks. Raises BadRequest."""
    raw = message.raw_input_contents
    if not message.inputs:
        raise BadRequest("there is no input in the request")
    if raw and len(raw) != len(message.inputs):
        raise BadRequest(f"there are {len(message.inputs)} inputs and {len(raw)} raw contents")
    check_names([each.name for each in message.inputs], "input")
    check_names([each.name for each in message.outputs], "output")
    tensors = [_tensor(each, raw[place] if raw else None) for place, each in enumerate(message.inputs)]
    return InferRequest(tensors, [_wanted(each) for each in message.outputs], message.id)


def response_of(
    facts: ModelFacts, request_id: str, outputs: Sequence[tuple[Tensor, Wanted]]
) -> pb.ModelInferResponse:
    """The answer, its tensors as raw contents."""
    return pb.ModelInferResponse(
        model_name=facts.name,
        model_version=facts.version,
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(name=each.name, datatype=each.datatype, shape=each.shape)
            for each, _ in outputs
        ],
        raw_output_contents=[bytes(to_bytes(each)) for each, _ in outputs],
    )


def server_message() -> pb.ServerMetadataResponse:
    """About the server."""
    return pb.ServerMetadataResponse(name="snapserve", version=__version__, extensions=EXTENSIONS)


def model_message(facts: ModelFacts, versions: Sequence[str]) -> pb.ModelMetadataResponse:
    """About a model."""
    document = model_document(facts, versions)
    kind = pb.ModelMetadataResponse.TensorMetadata
    tensors: dict[str, Any] = {
        name: [kind(**each) for each in document.pop(name)] for name in ("inputs", "outputs")
    }
    return pb.ModelMetadataResponse(**document, **tensors)


def config_message(facts: ModelFacts) -> pb.ModelConfigResponse:
    """The configuration of a model."""
    most = largest_batch(facts)
    return pb.ModelConfigResponse(
        config=pb.ModelConfig(
            name=facts.name,
            platform=platform_of(facts),
            backend="snapserve",
            max_batch_size=most,
            input=[pb.ModelInput(**_config(each, most)) for each in facts.inputs],
            output=[pb.ModelOutput(**_config(each, most)) for each in facts.outputs],
        )
    )


def index_message(entries: Sequence[Mapping[str, str]], only_ready: bool) -> pb.RepositoryIndexResponse:
    """The versions in the repository."""
    kind = pb.RepositoryIndexResponse.ModelIndex
    wanted = [each for each in entries if each["state"] == "READY" or not only_ready]
    return pb.RepositoryIndexResponse(models=[kind(**each) for each in wanted])


def statistics_message(statistics: Sequence[Mapping[str, Any]]) -> pb.ModelStatisticsResponse:
    """How often models ran."""
    return pb.ModelStatisticsResponse(model_stats=[_statistics(each) for each in statistics])


def _statistics(given: Mapping[str, Any]) -> pb.ModelStatistics:
    times = {name: pb.StatisticDuration(**each) for name, each in given["inference_stats"].items()}
    counts = {name: given[name] for name in ("name", "version", "inference_count", "execution_count")}
    return pb.ModelStatistics(**counts, inference_stats=pb.InferStatistics(**times))


def _config(spec: TensorSpec, batch: int) -> dict[str, Any]:
    data_type = pb.DataType.Value(config_type(spec.datatype))
    return {"name": spec.name, "data_type": data_type, "dims": dims_of(spec, batch)}


def _tensor(given: pb.ModelInferRequest.InferInputTensor, raw: bytes | None) -> Tensor:
    name = shown(given.name)
    check_no_shared_memory(given.parameters, f"input '{name}'")
    datatype, shape = check_datatype(given.datatype, name), check_shape(list(given.shape), name)
    if raw is None:
        return _from_contents(given, datatype, shape)
    if given.HasField("contents"):
        raise BadRequest(f"input '{name}' has contents, and there are raw contents")
    return from_bytes(given.name, datatype, shape, memoryview(raw))


def _from_contents(given: pb.ModelInferRequest.InferInputTensor, datatype: str, shape: tuple[int, ...]) -> Tensor:
    name = shown(given.name)
    if datatype not in _CONTENTS:
        raise BadRequest(f"input '{name}': {datatype} is sent as raw contents")
    filled = [field.name for field, _ in given.contents.ListFields()]
    if others := [each for each in filled if each != _CONTENTS[datatype]]:
        raise BadRequest(
            f"input '{name}': {datatype} has its elements in {_CONTENTS[datatype]}, not in {others[0]}"
        )
    values = getattr(given.contents, _CONTENTS[datatype])
    if datatype == BYTES:
        return from_values(given.name, datatype, shape, list(values))
    array = np.array(values, _wide(datatype))
    dtype = DTYPES[datatype]
    if dtype.kind in "iu" and array.size:
        limits = np.iinfo(dtype)
        if array.min() < limits.min or array.max() > limits.max:
            raise BadRequest(f"input '{name}': a number is out of range for {datatype}")
    return from_values(given.name, datatype, shape, array.astype(dtype, copy=False))


def _wide(datatype: str) -> np.dtype[Any]:
    """The dtype of the list that the elements of a datatype are in."""
    kind = DTYPES[datatype].kind
    return DTYPES[datatype] if kind not in "iu" else np.dtype("u8" if kind == "u" else "i8")


def _wanted(given: pb.ModelInferRequest.InferRequestedOutputTensor) -> Wanted:
    parameters = {name: _value(each) for name, each in given.parameters.items()}
    check_no_shared_memory(parameters, f"output '{shown(given.name)}'")
    return Wanted(given.name, classes_of(parameters, given.name), True)


def _value(parameter: pb.InferParameter) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return None if chosen is None else getattr(parameter, chosen)
