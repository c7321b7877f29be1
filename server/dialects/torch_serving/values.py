"""JSON values that say their type <-> arguments and nested values."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.inputs import Image
from runtime.values import DTYPES, Nested
from server.dialects.torch_serving.envelope import INVALID_INPUT, WRONG_DTYPE, refusal
from server.dialects.torch_serving.numbers import array_of, number_of, shape_of
from server.http.base64_text import BrokenBase64, decode_base64

_NO_OBJECTS = "Must be an array of objects"
_INCOMPLETE = "Error parsing payload, missing required attributes 'type' and 'value'."
_NO_ARRAY = "Error parsing payload, expected '{}' to be an array for 'type' of 'tensor'"
_NO_VALUES = "Error parsing payload, expected 'value' to be an array to be converted to 'type' of 'tensor'"
_DTYPE_NO_STRING = "If specified, data_type must be a string"
_ONLY_TENSORS = "Only supports Tensor and TensorList types"
# What an engine could not give back, by `UnsupportedOutput.what`.
UNSUPPORTED = {
    "dtype": (WRONG_DTYPE, "Unsupported scalar type"),
    "keys": (INVALID_INPUT, "Can only convert GenericDicts to Json if keys are string type"),
    "type": (INVALID_INPUT, _ONLY_TENSORS),
}


def arguments_of(document: Any) -> tuple[Nested | Image, ...]:
    """The arguments that a request's JSON stands for: an object is the only one, null is none.

    Raises:
        Refusal: one of them is not understood; the first from the left.
    """
    if document is None:
        return ()
    if isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        raise refusal(INVALID_INPUT, _NO_OBJECTS)
    return tuple([_argument(each) for each in document])


def json_of(tree: Nested) -> Any:
    """What orjson writes for a value, with arrays for the numbers of tensors.

    Raises:
        Refusal: there is something in it that this API has no JSON for.
    """
    if isinstance(tree, np.ndarray):
        return _tensor_json(tree)
    if isinstance(tree, bool):
        return {"data_type": "bool", "type": "scalar", "value": tree}
    if isinstance(tree, int):
        return {"data_type": "int64", "type": "scalar", "value": tree}
    if isinstance(tree, float):
        return {"data_type": "float64", "type": "scalar", "value": tree}
    if isinstance(tree, str):
        return {"type": "string", "value": tree}
    if isinstance(tree, dict):
        values = {key: json_of(value) for key, value in tree.items()}
        return {"type": "generic_dict", "value": values} if values else {"type": "generic_dict"}
    if tree is None or (isinstance(tree, list) and not all(isinstance(each, np.ndarray) for each in tree)):
        raise refusal(*UNSUPPORTED["type"])
    return [json_of(each) for each in tree]


def _argument(given: Any) -> Nested | Image:
    if not isinstance(given, dict):
        raise refusal(INVALID_INPUT, _NO_OBJECTS)
    if "type" not in given or "value" not in given:
        raise refusal(INVALID_INPUT, _INCOMPLETE)
    kind = given["type"]
    if not isinstance(kind, str):
        raise refusal(INVALID_INPUT, "Field `type` must be a string")
    if not isinstance(given.get("data_type", ""), str):
        raise refusal(INVALID_INPUT, _DTYPE_NO_STRING)
    if kind not in _PARSERS:
        raise refusal(INVALID_INPUT, f"Unsupported type: {kind[:100]}")
    return _PARSERS[kind](given)


def _tensor(given: Any) -> NDArray[Any]:
    if not isinstance(given, dict) or not isinstance(given.get("shape"), list):
        raise refusal(INVALID_INPUT, _NO_ARRAY.format("shape"))
    values, name = given.get("value"), given.get("data_type", "float32")
    if not isinstance(values, list):
        raise refusal(INVALID_INPUT, _NO_VALUES)
    if not isinstance(name, str):
        raise refusal(INVALID_INPUT, _DTYPE_NO_STRING)
    shape = shape_of(given["shape"], len(values))
    return array_of(values, _dtype(name)).reshape(shape)


def _tensor_list(given: dict[str, Any]) -> Nested:
    if not isinstance(given["value"], list):
        raise refusal(INVALID_INPUT, "Type tensor_list must be an array")
    return [_tensor(each) for each in given["value"]]


def _tensor_dict(given: dict[str, Any]) -> Nested:
    if not isinstance(given["value"], dict):
        raise refusal(INVALID_INPUT, "Type tensor_dict must be an object")
    return {key: _tensor(each) for key, each in given["value"].items()}


def _scalar(given: dict[str, Any]) -> Nested:
    value = given["value"]
    if "data_type" not in given:
        raise refusal(WRONG_DTYPE, "Type scalar must specify a `data_type` as a string")
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(WRONG_DTYPE, "Type scalar must be a number")
    return number_of(value, _dtype(given["data_type"]))


def _string(given: dict[str, Any]) -> Nested:
    if not isinstance(given["value"], str):
        raise refusal(INVALID_INPUT, "Type string must specify a string value")
    text: str = given["value"]
    return text


def _image(given: dict[str, Any]) -> Image:
    if not isinstance(given["value"], str) or not given["value"]:
        raise refusal(INVALID_INPUT, "Type image must specify the base64 of a file")
    try:
        return Image(decode_base64(given["value"]))
    except BrokenBase64 as fault:
        raise refusal(INVALID_INPUT, f"Type image must be base64, but 'value' {fault}") from None


_PARSERS = {
    "tensor": _tensor,
    "tensor_list": _tensor_list,
    "tensor_dict": _tensor_dict,
    "scalar": _scalar,
    "string": _string,
    "image": _image,
}


def _dtype(name: str) -> np.dtype[Any]:
    if name not in DTYPES:
        raise refusal(WRONG_DTYPE, f"Invalid type for Tensor: {name[:100]}")
    return DTYPES[name]


def _tensor_json(tensor: NDArray[Any]) -> dict[str, Any]:
    name = tensor.dtype.name
    if name not in DTYPES:
        raise refusal(*UNSUPPORTED["dtype"])
    # Floats are written as the doubles that they are: 0.10000000149011612, not 0.1.
    written = np.float64 if tensor.dtype.kind == "f" else DTYPES[name]
    values = np.ascontiguousarray(tensor.reshape(-1), written)
    return {"data_type": name, "shape": list(tensor.shape), "type": "tensor", "value": values}
