"""`export`: an architecture with weights as one TorchScript file, or as torch.export's `.pt2`."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from models.commands import Subparsers
from models.errors import ModelError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from models.optimize.weights import Weights


def add_parser(subparsers: Subparsers) -> None:
    """Adds `export` to the command line."""
    parser = subparsers.add_parser("export", help="export an architecture with weights as TorchScript or .pt2")
    parser.add_argument("--arch", default="resnet18", metavar="NAME", help="torchvision architecture [resnet18]")
    parser.add_argument(
        "--weights",
        default="default",
        metavar="default|none|FILE",
        help="pretrained, random or a state dict [default]",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of random weights [0]")
    parser.add_argument(
        "--num-classes",
        type=int,
        default=1000,
        metavar="N",
        help="number of classes of random weights or of FILE [1000]",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--script", action="store_true", help="script instead of trace, for networks with control flow"
    )
    parser.add_argument("--export", action="store_true", help="write .pt2 (torch.export) instead of TorchScript")
    parser.add_argument(
        "--serving",
        action="store_true",
        help="input uint8 [N,H,W,3], output probabilities; default: normalised float [N,3,H,W], logits",
    )
    parser.set_defaults(run=run)


def run(arguments: Namespace) -> int:
    """Writes the file through a draft beside it, so that a failure leaves what was there."""
    from models.optimize.errors import OptimizeError, UsageError

    if arguments.export and arguments.script:
        raise UsageError("--export and --script exclude each other")
    weights = _weights(arguments)
    graph, example = _graph(weights, arguments.serving)
    draft = arguments.output.with_name(f".{arguments.output.name}.draft")
    try:
        draft.parent.mkdir(parents=True, exist_ok=True)
        if arguments.export:
            _save_exported(graph, example, draft)
        else:
            _save_torchscript(graph, example, arguments.script, draft)
        draft.replace(arguments.output)
    except OSError as error:
        raise OptimizeError(f"{arguments.output}: cannot be written ({error.strerror})") from None
    finally:
        draft.unlink(missing_ok=True)
    print(f"wrote {arguments.output} ({arguments.arch}, weights {weights.source['weights']})")
    return 0


def _weights(arguments: Namespace) -> Weights:
    from models.optimize.sources import WeightsChoice, from_state_file, resolve

    if arguments.weights in ("default", "none"):
        random = arguments.weights == "none"
        choice = WeightsChoice(
            arguments.arch,
            arguments.weights,
            num_classes=arguments.num_classes if random else 0,
            seed=arguments.seed,
        )
        return resolve(choice, Console(stderr=True))
    return from_state_file(arguments.arch, Path(arguments.weights), arguments.num_classes)


def _graph(weights: Weights, serving: bool) -> tuple[nn.Module, torch.Tensor]:
    import torch

    from models.networks.graph import ServingGraph

    side = weights.preprocess.crop_size
    if serving:
        graph = ServingGraph(weights.network(), weights.preprocess, activation=weights.activation).eval()
        return graph, torch.zeros(2, side, side, 3, dtype=torch.uint8)
    return weights.reference_network(), torch.zeros(2, 3, side, side)


def _save_torchscript(graph: nn.Module, example: torch.Tensor, script: bool, file: Path) -> None:
    import torch

    from models.networks.graph import compile_graph, jit_warnings_ignored, trace_or_script

    if script:
        try:
            compiled = compile_graph(graph, example, script=True)
        except Exception:
            raise ModelError("this network cannot be scripted; leave out --script to trace it") from None
    else:
        compiled, _ = trace_or_script(graph, example)
    with jit_warnings_ignored():
        torch.jit.save(compiled, file)


def _save_exported(graph: nn.Module, example: torch.Tensor, file: Path) -> None:
    import torch

    try:
        program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception:
        raise ModelError("torch.export cannot export this network; leave out --export for TorchScript") from None
    with file.open("wb") as stream:
        torch.export.save(program, stream)
