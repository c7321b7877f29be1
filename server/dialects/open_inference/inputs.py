"""The tensors of a request -> the inputs of its model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from runtime.errors import InvalidInput
from runtime.inputs import Image, Input
from runtime.model import IMAGE_CLASSIFIER, TENSOR_MODEL, ModelFacts
from runtime.signature import ANY, ARGUMENT, TensorSpec
from runtime.values import Tensors
from server.config import LimitConfig
from server.dialects.open_inference.datatypes import BYTES
from server.dialects.open_inference.tensors import Element, Tensor, shown
from server.http.base64_text import BrokenBase64, decode_base64
from server.http.faults import BadRequest, BodyTooLarge

_CHANNELS = 3


class Inputs(NamedTuple):
    """What a model is given for one request.

    Attributes:
        items: an input for each, or its error.
        is_batch: whether the outputs have a first dimension of one row per item.
    """

    items: Sequence[Input | Exception]
    is_batch: bool


class InputReader:
    """Checks tensors against what a model takes."""

    def __init__(self, limits: LimitConfig) -> None:
        """Creates it with limits of sizes."""
        self._max_files = limits.max_files
        self._max_image = int(limits.max_image_mb * 1_000_000)

    def read(self, facts: ModelFacts, tensors: Sequence[Tensor]) -> Inputs:
        """The inputs of a model.

        Raises:
            BadRequest: a name, datatype or shape is not the model's.
            BodyTooLarge: there are too many images.
            InvalidInput: the model takes no tensors.
        """
        if facts.kind == IMAGE_CLASSIFIER:
            (spec,) = facts.inputs
            _check_names([spec], tensors)
            return self._images(tensors[0])
        if facts.kind != TENSOR_MODEL:
            raise InvalidInput(f"The model {facts.name} takes a request as a whole, no tensors.")
        specs = facts.inputs or [TensorSpec(f"{ARGUMENT}{place}") for place in range(len(tensors))]
        _check_names(specs, tensors)
        by_name = {each.name: each for each in tensors}
        for spec in specs:
            _check(spec, by_name[spec.name])
        return Inputs([Tensors({spec.name: _array(by_name[spec.name]) for spec in specs})], False)

    def _images(self, tensor: Tensor) -> Inputs:
        if tensor.datatype == BYTES:
            return self._files(tensor)
        pictures = _pictures(tensor)
        is_batch = len(tensor.shape) == 4
        self._check_count(len(pictures))
        return Inputs([Tensors({tensor.name: each}) for each in pictures], is_batch)

    def _files(self, tensor: Tensor) -> Inputs:
        shape = tensor.shape
        if not (len(shape) < 2 or (len(shape) == 2 and shape[1] == 1)):
            raise BadRequest(f"input '{tensor.name}': the shape of encoded images is [n] or [n, 1]")
        self._check_count(len(tensor.values))
        return Inputs([self._file(element) for element in tensor.values], bool(shape))

    def _check_count(self, count: int) -> None:
        if count > self._max_files:
            text = f"{count:,} images, at most {self._max_files:,} are allowed."
            raise BodyTooLarge(text, self._max_files, count)
        if not count:
            raise BadRequest("there is no image in the request")

    def _file(self, element: Element) -> Image | Exception:
        try:
            data = decode_base64(element) if isinstance(element, str) else element
        except BrokenBase64 as fault:
            return BadRequest(f"An image in JSON must be base64, but it {fault}")
        if not data:
            return BadRequest("It is empty.")
        if len(data) > self._max_image:
            text = f"The image has {len(data):,} bytes, at most {self._max_image:,} are allowed."
            return BodyTooLarge(text, self._max_image, len(data))
        return Image(data)


def _check_names(specs: Sequence[TensorSpec], tensors: Sequence[Tensor]) -> None:
    known, given = {each.name for each in specs}, {each.name for each in tensors}
    if unknown := [each.name for each in tensors if each.name not in known]:
        there = ", ".join(f"'{each.name}'" for each in specs)
        raise BadRequest(f"input '{shown(unknown[0])}' is unknown; the model takes {there}")
    if missing := [each.name for each in specs if each.name not in given]:
        raise BadRequest(f"input '{missing[0]}' is missing")


def _check(spec: TensorSpec, tensor: Tensor) -> None:
    if spec.datatype not in (ANY, tensor.datatype):
        raise BadRequest(f"input '{spec.name}' takes {spec.datatype}, not {tensor.datatype}")
    if spec.shape is None:
        return
    fits = len(spec.shape) == len(tensor.shape) and all(
        wanted in (-1, given) for wanted, given in zip(spec.shape, tensor.shape, strict=True)
    )
    if not fits:
        raise BadRequest(f"input '{spec.name}' takes the shape {list(spec.shape)}, not {list(tensor.shape)}")


def _array(tensor: Tensor) -> NDArray[Any]:
    if isinstance(tensor.values, np.ndarray):
        return tensor.values
    texts = np.empty(len(tensor.values), object)
    for place, element in enumerate(tensor.values):
        try:
            texts[place] = element if isinstance(element, str) else str(element, "utf-8")
        except UnicodeDecodeError:
            raise BadRequest(f"input '{tensor.name}': element {place:,} is no text in UTF-8") from None
    return texts.reshape(tensor.shape)


def _pictures(tensor: Tensor) -> list[NDArray[np.uint8]]:
    """uint8 [H, W, 3] each, of RGB pixels, channels first or last."""
    values, shape = tensor.values, tensor.shape
    if tensor.datatype != "UINT8" or not isinstance(values, np.ndarray):
        raise BadRequest(
            f"input '{tensor.name}' takes BYTES, encoded images, or UINT8, pixels; not {tensor.datatype}"
        )
    if len(shape) == _CHANNELS:
        values = values[np.newaxis]
    if len(shape) not in (3, 4) or _CHANNELS not in (values.shape[1], values.shape[3]) or 0 in values.shape[1:]:
        raise BadRequest(
            f"input '{tensor.name}': the shape of pixels is [n, height, width, 3] or [n, 3, height, width]"
        )
    if values.shape[3] != _CHANNELS:
        values = values.transpose(0, 2, 3, 1)
    return list(values)
