"""The way in which a program of a user takes images, and the meaning of its outputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import torch
from torch import nn

from models.bundles.bundle import ModelBundle
from models.bundles.spec import MEASURED, EngineSpec, PreprocessSpec
from models.engines.bare_outputs import (
    OneByOne,
    Output,
    Rows,
    choose_activation,
    choose_output,
    describe,
    fits,
    tensors_of,
)
from models.engines.load_checks import (
    Triple,
    check_answers,
    check_mode,
    is_quantised,
    may_end_in_scores,
    normalisation_inside,
    probes,
    triples_of,
)
from models.errors import EngineError
from models.networks.graph import DTYPES, ServingGraph, jit_warnings_ignored

_EXTREME = 100  # times what an image can be; half precision still holds it
_UNNORMALISED = (0.0, 0.0, 0.0)  # the mean of the presets none and raw


@dataclass(frozen=True)
class Opened:
    """A program that was read from its file.

    Attributes:
        module: what runs: normalised float [N, 3 or 1, H, W] -> a tensor, or several in a tuple or dict.
        record: its TorchScript, in which some faults can be read; None where there is none.
        triples: all that holds three numbers in it, where there is no such record.
    """

    module: Any
    record: Any | None = None
    triples: Sequence[Triple] = ()


@dataclass(frozen=True)
class Examined:
    """A program that passed the checks.

    Attributes:
        way: in which it takes images.
        columns: scores of a row: one per label, or one for two labels.
        activation: what makes scores of its outputs, one of `models.bundles.spec.ACTIVATIONS`.
        notices: warnings about it, a line each.
    """

    way: Way
    columns: int
    activation: str
    notices: tuple[str, ...]


def examine(opened: Opened, bundle: ModelBundle, spec: EngineSpec) -> Examined:
    """Finds out how the program is to be run, and checks its answers to four images.

    Args:
        opened: the program, on the device of `spec`.
        bundle: what is known of it.
        spec: resolved for this machine.

    Raises:
        EngineError: it does not take such images, has not one class per label, or answers an image differently
            from time to time; one line that names the file and says what to do.
    """
    try:
        with torch.inference_mode():
            return _examine(opened, bundle, spec)
    except EngineError as error:
        raise EngineError(f"{bundle.file}: {error}") from None


def _examine(opened: Opened, bundle: ModelBundle, spec: EngineSpec) -> Examined:
    record = opened.record
    if record is not None:
        check_mode(record)
    images = probes(bundle.spec.preprocess.crop_size, spec.device)
    way, outputs = _fit(opened.module, bundle, spec, images)
    _check_outputs(outputs, bundle)
    is_int8 = record is not None and is_quantised(record)
    try:
        check_answers(way.graph("none"), images, outputs, "int8" if is_int8 else way.precision)
    except EngineError:
        raise
    except Exception as error:  # the program's own
        raise EngineError(f"does not run on batches of every size: {_last_line(error)}") from None
    unbounded = record is not None and not may_end_in_scores(record)
    extreme = torch.full((1, 1), torch.inf) if unbounded else way.extreme(images[:1])
    activation, notice = choose_activation(outputs, extreme, spec.activation)
    triples = opened.triples if record is None else list(triples_of(record))
    twice = _normalised_twice(normalisation_inside(triples), bundle)
    notices = (*way.notices(), *_notices_of_outputs(outputs, bundle), notice, twice)
    return Examined(way, outputs.shape[1], activation, tuple(filter(None, notices)))


@dataclass(frozen=True)
class Way:
    """In which way a program takes images.

    Attributes:
        program: `Opened.module`.
        preprocess: mean and std.
        device: on which it computes.
        precision: of its input.
        grey: it takes one channel.
        one_by_one: it takes a single image.
        output: which of several outputs holds the scores; "" where there is one.
        is_matrix: the answer is one tensor, float [N, columns].
        channels_last: it takes that layout, which is faster, and answers the same.
    """

    program: Any
    preprocess: PreprocessSpec
    device: str
    precision: str
    grey: bool
    one_by_one: bool
    output: str = ""
    is_matrix: bool = True
    channels_last: bool = False

    def graph(self, activation: str) -> nn.Module:
        """uint8 [N, H, W, 3] -> float32 [N, columns], as Python runs it."""
        return self._in_turns(self._whole(activation))

    def compiled(self, activation: str) -> nn.Module:
        """The same, compiled where the program is TorchScript and answers with a matrix."""
        whole = self._whole(activation)
        compiles = self.is_matrix and isinstance(self.program, torch.jit.ScriptModule)
        return self._in_turns(_compile(whole) if compiles else whole)

    def _whole(self, activation: str) -> ServingGraph:
        network = Rows(self.program) if self.is_matrix else Output(self.program, self.output)
        graph = ServingGraph(network, self.preprocess, self.precision, activation, self.channels_last, self.grey)
        return graph.eval().to(self.device)

    def _in_turns(self, graph: nn.Module) -> nn.Module:
        return OneByOne(graph).eval() if self.one_by_one else graph

    def answer(self, images: torch.Tensor) -> Any:
        """The program's own answer, whatever that is. images: uint8 [N, H, W, 3]."""
        return self.program(self._whole("none").normalise(images))

    def extreme(self, images: torch.Tensor) -> torch.Tensor:
        """Outputs, float32 [N, columns], to images far beyond black and white; NaN where it refuses them."""
        whole = self._whole("none")
        try:
            outputs: torch.Tensor = whole.network(whole.normalise(images) * _EXTREME).float()
        except Exception:  # the program's own
            return torch.full((1, 1), torch.nan)
        return outputs

    def notices(self) -> Iterator[str]:
        """Warnings about it, a line each."""
        if self.one_by_one:
            yield "takes one image at a time, so batches are no faster; export it with a batch of two or more"
        if self.precision == "fp64":
            yield "computes in double precision, which takes twice as long; export it after model.float()"
        if self.grey:
            yield "takes one channel: images become grey"
        if self.output:
            yield f"its output {self.output!r} holds the scores"


def _fit(module: Any, bundle: ModelBundle, spec: EngineSpec, images: torch.Tensor) -> tuple[Way, torch.Tensor]:
    """The first way in which the program takes images, and its outputs, float32 [N, columns]."""
    preprocess, reason = bundle.spec.preprocess, ""
    for precision, one_by_one, grey in product(_precisions(module), (False, True), (False, True)):
        way = Way(module, preprocess, spec.device, precision, grey, one_by_one)
        asked = images[:1] if one_by_one else images
        try:
            answer = way.answer(asked)
        # A program of a user may raise any exception.
        except Exception as error:
            reason = reason or _last_line(error)
            continue
        if not one_by_one and _is_one_answer(answer):
            continue
        if grey:
            _check_grey(preprocess)
        output = choose_output(answer, spec.output, len(asked), bundle.spec.num_classes)
        matrix = isinstance(answer, torch.Tensor)
        way = dataclasses.replace(way, output=output, is_matrix=matrix)
        _check_scores(tensors_of(answer)[output], answer, len(asked), bundle.spec.num_classes)
        return _fastest(way, images)
    raise EngineError(_refusal(module, images, preprocess, reason))


def _is_one_answer(answer: Any) -> bool:
    """Whether it has a single row, although there were several images: the batch was recorded as one."""
    return all(tensor.dim() > 0 and len(tensor) == 1 for tensor in tensors_of(answer).values())


def _fastest(way: Way, images: torch.Tensor) -> tuple[Way, torch.Tensor]:
    """Channels-last is faster, but a recorded `view` may refuse it or, in principle, read it wrongly."""
    outputs = way.graph("none")(images)
    fast = dataclasses.replace(way, channels_last=True)
    try:
        again = fast.graph("none")(images)
    except Exception:  # the program's own
        return way, outputs
    same = torch.allclose(again, outputs, rtol=0.02, atol=1e-3, equal_nan=True)
    return (fast, again) if same else (way, outputs)


def _check_grey(preprocess: PreprocessSpec) -> None:
    if len({*preprocess.mean}) > 1 or len({*preprocess.std}) > 1:
        raise EngineError(
            "takes one channel, but the preprocessing has three means; name the one that it was trained with: "
            '--preprocess half, none, raw, or a file with "mean": 0.1307, "std": 0.3081, say'
        )


def _check_scores(tensor: torch.Tensor, answer: Any, rows: int, num_classes: int) -> None:
    if not tensor.is_floating_point():
        raise EngineError(f"answers with {describe(answer)}: class numbers, not scores; export it without argmax")
    if tensor.dim() != 2 and not fits(tensor, rows, num_classes):
        raise EngineError(
            f"answers {rows} images with {describe(answer)}, expected a score for each {_class(num_classes)}"
        )


def _class(number: int) -> str:
    return f"of the {number} labels" if number else "class"


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].removeprefix("RuntimeError: ")[:300] if lines else type(error).__name__


def _refusal(module: Any, images: torch.Tensor, preprocess: PreprocessSpec, reason: str) -> str:
    try:
        module(images)
    except Exception:
        side = preprocess.crop_size
        return (
            f"does not run on normalised float [N, 3, {side}, {side}]: {reason}. If it was made for another size, "
            '--preprocess FILE names it, e.g. {"preset": "imagenet", "resize_size": 256, "crop_size": 224}; '
            "if for another device, --device does"
        )
    return "takes uint8 [N, H, W, 3], as a graph inside a bundle does; export it for normalised float [N, 3, H, W]"


def _check_outputs(outputs: torch.Tensor, bundle: ModelBundle) -> None:
    columns = outputs.shape[1]
    classes = bundle.spec.num_classes or columns
    if columns != classes and not (columns == 1 and classes == 2):
        more = "; is the first one a background class?" if columns == classes + 1 else ""
        raise EngineError(f"has {columns} classes, but there are {classes} labels{more}")
    if not outputs.isfinite().all():
        raise EngineError("the output is not finite")


def _notices_of_outputs(outputs: torch.Tensor, bundle: ModelBundle) -> Iterator[str]:
    if bool((outputs == outputs[:1]).all()):
        yield "gives four very different images the same scores; is --preprocess the one that it was trained with?"
    if bundle.spec.num_classes not in (MEASURED, outputs.shape[1]):
        yield f"one output for two labels: it is the score of {bundle.labels[1]!r}"


def _normalised_twice(inside: str, bundle: ModelBundle) -> str:
    if not inside or bundle.spec.preprocess.mean == _UNNORMALISED:
        return ""
    advice = f"normalises its input itself ({inside}), and --preprocess would do it once more"
    if bundle.spec.source.get("preprocess") == "named":
        return f"{advice}; if so, choose none (it gets 0 to 1) or raw (0 to 255)"
    raise EngineError(f"{advice}; name --preprocess none (it gets 0 to 1), raw (0 to 255), or what is right")


def _precisions(module: nn.Module) -> list[str]:
    """That of the first floating parameter, which frozen and quantised models lack, and then the others."""
    names = {dtype: name for name, dtype in DTYPES.items()}
    found = [names[parameter.dtype] for parameter in module.parameters() if parameter.dtype in names]
    return list(dict.fromkeys([*found[:1], "fp32", "fp16", "bf16", "fp64"]))


def _compile(graph: ServingGraph) -> torch.jit.ScriptModule:
    with jit_warnings_ignored(), torch.inference_mode():
        scripted = torch.jit.script(graph)
        try:
            compiled: torch.jit.ScriptModule = torch.jit.freeze(scripted)
        except RuntimeError:
            # Modules frozen before they were saved, and some quantised ones, cannot be frozen again.
            compiled = scripted
    return compiled
