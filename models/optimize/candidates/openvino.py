"""OpenVINO: fp32 and bf16 as converted, int8 quantised by NNCF on images. Needs the extra `openvino`."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

from models.bundles.spec import EngineSpec
from models.engines.conversion import forbid_telemetry, to_openvino
from models.errors import ModelError
from models.machine.processor import saturates_int8
from models.machine.signal_stack import kept_signal_stack
from models.networks.graph import ServingGraph
from models.networks.programs import FORMATS, TORCHSCRIPT
from models.optimize.candidates.base import Candidate, Job
from models.optimize.candidates.openvino_parts import convert_in_parts
from models.optimize.candidates.torchscript import has_bf16
from models.optimize.program import Program
from models.optimize.weights import NETWORK


def build(job: Job, folder: Path, precision: str) -> EngineSpec:
    """Converts, quantises where int8 is asked for, and writes a graph and its weights.

    int8 weights have 7 bits where the processor needs them, else those of the first layer only, NNCF's default.

    Raises:
        ModelError: there are no images to calibrate on.
    """
    forbid_telemetry()
    import openvino

    model = convert(job)
    reduce_range = precision == "int8" and saturates_int8()
    if precision == "int8":
        model = _quantize(model, job, reduce_range)
    file = folder / f"openvino-{precision}.xml"
    openvino.save_model(model, file, compress_to_fp16=False)
    return EngineSpec(
        kind="openvino",
        file=file.name,
        sha256="",
        precision=precision,
        device="cpu",
        max_batch_size=job.max_batch_size,
        reduce_range=reduce_range,
        companions={file.with_suffix(".bin").name: ""},
    )


def convert(job: Job) -> Any:
    """The openvino.Model: uint8 [N, side, side, 3] -> scores float32 [N, num_classes]."""
    if isinstance(job.network, Program) and job.network.kind != TORCHSCRIPT:
        return convert_in_parts(job, job.network)
    graph = ServingGraph(job.network, job.preprocess, activation=job.activation).eval()
    return to_openvino(graph, job.example())


def _quantize(model: Any, job: Job, reduce_range: bool) -> Any:
    """Everything but depthwise convolutions, which have few multiply-adds and lose the most (docs/engines.md)."""
    import nncf
    from nncf.quantization.advanced_parameters import AdvancedQuantizationParameters, OverflowFix

    if not len(job.calibration):
        raise ModelError("there are no images to calibrate on")
    images = nncf.Dataset([image[None] for image in job.calibration])
    fix = OverflowFix.ENABLE if reduce_range else OverflowFix.FIRST_LAYER
    with kept_signal_stack():
        return nncf.quantize(
            model,
            images,
            subset_size=len(job.calibration),
            # Activations of either sign have a zero point; those behind a ReLU need none, and have none.
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=_depthwise(model), validate=False),
            advanced_parameters=AdvancedQuantizationParameters(overflow_fix=fix),
        )


def _depthwise(model: Any) -> list[str]:
    """Names of the convolutions that have a group for each channel."""
    return [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "GroupConvolution" and node.input(1).get_partial_shape()[2] == 1
    ]


def installed(*packages: str) -> bool:
    """Whether all packages are installed."""
    return all(importlib.util.find_spec(package) is not None for package in packages)


def can_bf16() -> bool:
    """Whether OpenVINO is installed and the processor computes in bf16."""
    return has_bf16() and installed("openvino")


_ANY = (NETWORK, *FORMATS)
FP32 = Candidate(
    "openvino-fp32",
    "cpu",
    "fp32",
    partial(build, precision="fp32"),
    partial(installed, "openvino"),
    has_streams=True,
    sources=_ANY,
)
BF16 = Candidate(
    "openvino-bf16", "cpu", "bf16", partial(build, precision="bf16"), can_bf16, has_streams=True, sources=_ANY
)
INT8 = Candidate(
    "openvino-int8",
    "cpu",
    "int8",
    partial(build, precision="int8"),
    partial(installed, "openvino", "nncf"),
    has_streams=True,
    typical_s=18,
    sources=_ANY,
)
