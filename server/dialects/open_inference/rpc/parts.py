"""How many parts a message has, counted before it is parsed: each takes far more memory and time than its bytes.

The format: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.http.faults import BodyTooLarge

MOST_PARTS = 20_000  # fields of a message and of those in it, elements of BYTES among them
MOST_NUMBERS = 2_000_000  # bytes of whole numbers and booleans: as many elements, and 50 ms
_SHORT = 40_000  # bytes of a message that is not looked at
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5  # wire types
_VARINTS = ("TYPE_INT32", "TYPE_INT64", "TYPE_UINT32", "TYPE_UINT64", "TYPE_BOOL", "TYPE_ENUM")

Form = Mapping[int, Any]  # by number of a field: the form of the message in it, or None for packed varints


def _form_of(descriptor: Any) -> Form:
    kinds = {getattr(descriptor.fields[0], name): name for name in (*_VARINTS, "TYPE_MESSAGE")}
    found: dict[int, Any] = {}
    for field in descriptor.fields:
        kind = kinds.get(field.type)
        if kind is not None:
            found[field.number] = _form_of(field.message_type) if kind == "TYPE_MESSAGE" else None
    return found


INFERENCE = _form_of(pb.ModelInferRequest.DESCRIPTOR)


def check_parts(data: bytes, form: Form = INFERENCE) -> None:
    """Checks a message that was not parsed yet; one that is damaged is for the parser to refuse.

    Args:
        data: the message.
        form: of it.

    Raises:
        BodyTooLarge: it has too many parts or numbers.
    """
    if len(data) > _SHORT:
        _Count(data).add(0, len(data), form)


class _Count:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._parts = self._numbers = 0

    def add(self, place: int, end: int, form: Form) -> None:
        """Counts the fields between two places."""
        data = self._data
        while place < end:
            self._parts += 1
            if self._parts > MOST_PARTS:
                text = f"The message has more than {MOST_PARTS:,} parts; send elements as raw contents."
                raise BodyTooLarge(text, MOST_PARTS, None)
            key, place = (data[place], place + 1) if data[place] < 128 else self._varint(place, end)
            wire = key & 7
            if wire in (_FIXED64, _FIXED32):
                place += 8 if wire == _FIXED64 else 4
                continue
            if wire not in (_VARINT, _LENGTH) or place >= end:  # groups, which no field has; or cut short
                return
            value, place = (data[place], place + 1) if data[place] < 128 else self._varint(place, end)
            if wire == _LENGTH:
                if key >> 3 in form:
                    self._enter(place, min(end, place + value), form[key >> 3])
                place += value

    def _enter(self, place: int, end: int, form: Form | None) -> None:
        if form is not None:
            self.add(place, end, form)
            return
        self._numbers += end - place
        if self._numbers > MOST_NUMBERS:
            text = f"The message has more than {MOST_NUMBERS:,} bytes of typed numbers; send them as raw contents."
            raise BodyTooLarge(text, MOST_NUMBERS, self._numbers)

    def _varint(self, place: int, end: int) -> tuple[int, int]:
        """A number, and where it ends; `end` for one that is cut short."""
        value = shift = 0
        while place < end and shift < 64:
            byte = self._data[place]
            place += 1
            value |= (byte & 127) << shift
            if byte < 128:
                return value, place
            shift += 7
        return value, end
