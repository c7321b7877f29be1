"""How many parts a message of gRPC has, by its bytes alone."""

from __future__ import annotations

import pytest

from server.dialects.open_inference.rpc.generated import open_inference_pb2 as pb
from server.dialects.open_inference.rpc.parts import MOST_NUMBERS, MOST_PARTS, check_parts
from server.http.faults import BodyTooLarge

Input = pb.ModelInferRequest.InferInputTensor
Contents = pb.InferTensorContents


def message(**contents):
    return pb.ModelInferRequest(inputs=[Input(contents=Contents(**contents))])


@pytest.mark.parametrize(
    "given",
    [
        pb.ModelInferRequest(raw_input_contents=[bytes(10_000_000)]),
        pb.ModelInferRequest(raw_input_contents=[b"x" * 5] * (MOST_PARTS - 1)),
        message(fp32_contents=[1.5] * 1_000_000),
        message(bytes_contents=[bytes(10_000_000)] * 2),
        message(bytes_contents=[b"xyz"] * (MOST_PARTS - 10)),
        message(int_contents=[1] * MOST_NUMBERS),
    ],
    ids=range(6),
)
def test_what_takes_little_more_than_its_bytes_is_parsed(given):
    check_parts(given.SerializeToString())


@pytest.mark.parametrize(
    "given",
    [
        pb.ModelInferRequest(raw_input_contents=[b""] * (MOST_PARTS + 1)),
        pb.ModelInferRequest(inputs=[Input()] * (MOST_PARTS + 1)),
        pb.ModelInferRequest(parameters={str(each): pb.InferParameter() for each in range(MOST_PARTS)}),
        pb.ModelInferRequest(
            inputs=[Input(parameters={str(each): pb.InferParameter() for each in range(MOST_PARTS)})]
        ),
        pb.ModelInferRequest(inputs=[Input(shape=[1] * (MOST_NUMBERS + 1))]),
        message(bytes_contents=[b""] * (MOST_PARTS + 1)),
        message(int64_contents=[1] * (MOST_NUMBERS + 1)),
        message(uint_contents=[300] * (MOST_NUMBERS // 2 + 1)),
    ],
    ids=range(8),
)
def test_what_takes_far_more_is_refused(given):
    with pytest.raises(BodyTooLarge):
        check_parts(given.SerializeToString())


@pytest.mark.parametrize(
    "data", [b"\xff" * 50_000, b"\x0b" * 50_000, b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f" + bytes(50_000)]
)
def test_what_is_damaged_is_for_the_parser_to_refuse(data):
    check_parts(data)
    with pytest.raises(Exception, match=r".*"):
        pb.ModelInferRequest.FromString(data)


def test_unpacked_numbers_are_parts():
    with pytest.raises(BodyTooLarge):
        check_parts(b"\x2a\xe0\xd4\x03\x2a\xdc\xd4\x03" + b"\x18\x01" * 30_000)
