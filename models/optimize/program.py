"""A classifier from a file: the network that candidates start from, and all that belongs to it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from models.bundles.bundle import ModelBundle
from models.bundles.labels import load_labels
from models.bundles.settings import Settings, settings_of
from models.bundles.spec import MEASURED, PROGRAM_KIND, EngineSpec, PreprocessSpec
from models.engines.bare_outputs import tensors_of
from models.engines.bare_way import Examined, Opened, examine
from models.engines.load_checks import probes
from models.engines.open_program import open_program
from models.errors import EngineError
from models.images.presets import read_preprocess
from models.networks.graph import DTYPES, as_grey
from models.networks.programs import ONNX, PROGRAM_ENGINE, copy_program, external_files, program_bundle
from models.optimize.choice import WeightsChoice
from models.optimize.weights import SpecTransforms, Weights

OPENVINO_FP32 = "openvino-fp32"  # the candidate


@dataclass(frozen=True)
class Calling:
    """How a program is called, and what is made of its answer.

    Attributes:
        precision: of its input, a key of `models.networks.graph.DTYPES`.
        grey: it takes one channel.
        channels_last: it takes that layout.
        output: which of several outputs holds the scores; "" where there is one.
        position: of that output among all.
        columns: scores of a row.
        pair: one score for two labels, the second's, so the first has the rest.
        activation: that makes scores of the outputs.
        preprocess: mean and std of its input.
    """

    precision: str
    grey: bool
    channels_last: bool
    output: str
    position: int
    columns: int
    pair: bool
    activation: str
    preprocess: PreprocessSpec


class Program(nn.Module):
    """A program: normalised float32 [N, 3, H, W] -> outputs float32 [N, num_classes].

    It is pickled and copied as its path.

    Attributes:
        file: of one of `models.networks.programs.FORMATS`.
        kind: of them.
        calling: how it is called.
        module: what runs.
    """

    def __init__(self, file: Path, kind: str, calling: Calling, module: nn.Module | None = None) -> None:
        """Opens the file, unless its module is given. Raises EngineError."""
        super().__init__()
        self.file = file
        self.kind = kind
        self.calling = calling
        self.module = module or open_program(file, calling.preprocess.crop_size).module
        self.eval()

    def __reduce__(self) -> tuple[Any, ...]:
        return Program, (self.file, self.kind, self.calling)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised images, float [N, 3, H, W] -> outputs [N, num_classes]."""
        return self.leave(self.output_of(self.enter(images)))

    def output_of(self, inputs: torch.Tensor) -> torch.Tensor:
        """The module's output that holds the scores, in the module's own shape."""
        return tensors_of(self.module(inputs))[self.calling.output]

    def enter(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [N, 3, H, W] -> the input of the module."""
        if self.calling.grey:
            images = self._grey(images)
        if not self.calling.channels_last:
            images = images.contiguous()
        return images.to(DTYPES[self.calling.precision])

    def _grey(self, images: torch.Tensor) -> torch.Tensor:
        """From the levels, because Pillow rounds grey to whole ones."""
        mean, std = self.calling.preprocess.mean[0], self.calling.preprocess.std[0]
        levels = ((images * std + mean) * 255).round()
        return (as_grey(levels) / 255 - mean) / std

    def leave(self, outputs: torch.Tensor) -> torch.Tensor:
        """The module's output -> float32 [N, num_classes]."""
        rows = outputs.reshape(-1, self.calling.columns).float()
        if not self.calling.pair:
            return rows
        # 1 - sigmoid(x) is sigmoid(-x).
        other = -rows if self.calling.activation == "sigmoid" else 1 - rows
        return torch.cat([other, rows], dim=1)

    def write(self, folder: Path, max_batch_size: int) -> EngineSpec:
        """Copies the file into `folder` and describes an engine that runs it as it is."""
        name, companions = copy_program(self.file, self.kind, folder)
        return EngineSpec(
            PROGRAM_KIND,
            name,
            sha256="",
            precision=self.calling.precision,
            device="cpu" if self.kind == ONNX else "any",
            max_batch_size=max_batch_size,
            activation=self.calling.activation,
            output=self.calling.output,
            companions=dict.fromkeys(companions, ""),
        )


@dataclass(frozen=True)
class ProgramWeights(Weights):
    """A program with all that belongs to it; `architecture` is its kind, and `state` is empty."""

    program: Program = field(kw_only=True)

    @property
    def nbytes(self) -> int:
        """Of the file, and of what belongs to it."""
        file = self.program.file
        others = (file.parent / name for name in external_files(file, self.program.kind))
        return sum(each.stat().st_size for each in (file, *others))

    @property
    def source_kind(self) -> str:
        """The file's format."""
        return self.program.kind

    @property
    def precision(self) -> str:
        """In which the file computes."""
        return self.program.calling.precision

    @property
    def reference(self) -> str:
        """What candidates are compared with, in words."""
        return f"the file's own {self.precision}"

    def network(self) -> nn.Module:
        """The program as a module."""
        return self.program

    def reference_network(self) -> nn.Module:
        """The program as a module."""
        return self.program

    def portable_engine(self, engines: dict[str, EngineSpec], folder: Path, max_batch_size: int) -> EngineSpec:
        """The file itself; of ONNX rather OpenVINO's fp32 graph, which needs no further package.

        The file is in the bundle in any case, so that it can be optimised anew.
        """
        graph = engines.get(OPENVINO_FP32) if self.program.kind == ONNX else None
        if graph is None:
            return self.program.write(folder, max_batch_size)
        if PROGRAM_ENGINE not in engines:
            engines[PROGRAM_ENGINE] = self.program.write(folder, max_batch_size)
        return graph


def from_file(choice: WeightsChoice, file: Path, console: Console) -> ProgramWeights:
    """A program that is no bundle, with what the choice and the settings file beside it say.

    Raises:
        ModelError: the file is damaged or of another kind, or does not fit its labels.
    """
    given = Settings(
        labels=load_labels(choice.labels) if choice.labels else None,
        preprocess=read_preprocess(str(choice.preprocess)) if choice.preprocess else None,
        activation="" if choice.activation == "auto" else choice.activation,
        output=choice.output_name,
    )
    bundle = program_bundle(file, given.over(settings_of(file)))
    source = {**bundle.spec.source, "sha256": bundle.spec.engine.sha256}
    spec = dataclasses.replace(bundle.spec, source=source, example="")
    return of_bundle(dataclasses.replace(bundle, spec=spec), console)


def of_bundle(bundle: ModelBundle, console: Console, title: str = "") -> ProgramWeights:
    """The program that is a bundle's engine.

    Args:
        bundle: labels may be left out where `num_classes` is `models.bundles.spec.MEASURED`.
        console: for warnings about the program.
        title: what they begin with; by default its file.

    Raises:
        ModelError: it cannot be optimised.
    """
    spec = bundle.spec
    opened = open_program(bundle.file, spec.preprocess.crop_size)
    calling = _calling(_examined(opened, bundle, console, title or str(bundle.file)), bundle)
    return ProgramWeights(
        spec.architecture,
        {},
        bundle.labels,
        spec.preprocess,
        SpecTransforms(spec.preprocess),
        source=spec.source,
        name=spec.name,
        example=spec.example,
        activation=calling.activation,
        program=Program(bundle.file.resolve(), spec.architecture, calling, opened.module),
    )


def _examined(opened: Opened, bundle: ModelBundle, console: Console, title: str) -> Examined:
    try:
        found = examine(opened, bundle, dataclasses.replace(bundle.spec.engine, device="cpu"))
    except EngineError as error:
        # The server's option of that name; the optimiser's is the folder of the bundle.
        raise EngineError(str(error).replace("--output ", "--output-name ")) from None
    for notice in found.notices:
        console.print(f"{title}: {notice}", markup=False, highlight=False, soft_wrap=True)
    if found.way.one_by_one:
        raise EngineError(
            f"{bundle.file}: takes one image at a time; export it with two or more: "
            "torch.jit.trace(model.eval(), torch.rand(2, 3, 224, 224))"
        )
    return found


def _calling(found: Examined, bundle: ModelBundle) -> Calling:
    way, preprocess = found.way, bundle.spec.preprocess
    with torch.inference_mode():
        answer = way.answer(probes(preprocess.crop_size, "cpu"))
    return Calling(
        precision=way.precision,
        grey=way.grey,
        channels_last=way.channels_last,
        output=way.output,
        position=list(tensors_of(answer)).index(way.output),
        columns=found.columns,
        pair=bundle.spec.num_classes not in (MEASURED, found.columns),
        activation=found.activation,
        preprocess=preprocess,
    )
