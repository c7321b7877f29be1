"""Trains a network on the digits and writes it as a bundle: `python -m examples.digits.train --output FOLDER`."""

from __future__ import annotations

import argparse
import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from safetensors.torch import save
from torch import nn

from examples.digits.augment import INK_SHARE, Augmenter
from examples.digits.digits import DATASET, HELD_OUT_EVERY, Ink, enlarge, load_samples
from examples.digits.measure import fidelity
from examples.digits.strokes import draw_many
from models.bundles.bundle import ModelBundle
from models.bundles.spec import EngineSpec, ModelSpec, PreprocessSpec
from models.machine.processor import cpu_name
from models.networks.architectures import build_network

DEMO = "shufflenet_v2_x0_5"
LABELS = tuple("0123456789")

_INK_SIDE = 64
_DRAWINGS = 4000
_WEIGHT_DECAY = 5e-4
_FIRST_DIGIT = 0.8  # height of the smallest digits at the start


@dataclass(frozen=True)
class Recipe:
    """How an architecture is trained.

    Attributes:
        crop_size: side of the images that the network sees, in pixels.
        smallest_digit: height of the smallest digits that it learns, as a share of the image's.
        steps: batches.
        batch_size: images in a batch.
        drawn: how many of them are drawings; the others are samples.
        learning_rate: the highest; it rises and falls over the steps (https://arxiv.org/abs/1708.07120).
    """

    crop_size: int
    smallest_digit: float
    steps: int
    batch_size: int
    drawn: int
    learning_rate: float


RECIPES = {
    DEMO: Recipe(crop_size=96, smallest_digit=0.27, steps=1400, batch_size=64, drawn=32, learning_rate=0.2),
    "resnet18": Recipe(crop_size=40, smallest_digit=0.57, steps=150, batch_size=64, drawn=16, learning_rate=0.05),
}


def train_bundle(
    output: Path, architecture: str = DEMO, seed: int = 0, steps: int | None = None, progress: bool = False
) -> ModelBundle:
    """Trains, writes the bundle, measures it as it will be served, and writes down the result.

    Args:
        output: folder of the bundle; made if need be, its files are overwritten.
        architecture: a key of `RECIPES`.
        seed: of the first weights, the drawings and the augmentation.
        steps: batches to train on; None takes the recipe's.
        progress: show a bar when the output is a terminal.
    """
    recipe = RECIPES[architecture]
    if steps is not None:
        recipe = dataclasses.replace(recipe, steps=steps)
    network = _train(architecture, recipe, seed, progress)
    source = {
        "weights": "trained by examples/digits/train.py",
        "dataset": DATASET,
        "split": f"stratified: of each digit every {HELD_OUT_EVERY}th sample is held out",
        "seed": seed,
        **dataclasses.asdict(recipe),
    }
    return _write(output, network, _spec(architecture, recipe, source))


def _train(architecture: str, recipe: Recipe, seed: int, progress: bool) -> nn.Module:
    inks, digits, samples = _training_inks(min(_DRAWINGS, recipe.steps * recipe.drawn), seed)
    augment = Augmenter(recipe.crop_size, seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build_network(architecture, len(LABELS)).train().to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(
            network.parameters(), recipe.learning_rate, momentum=0.9, weight_decay=_WEIGHT_DECAY, nesterov=True
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, recipe.learning_rate, recipe.steps)
        bar = track(range(recipe.steps), "training", disable=not (progress and Console().is_terminal))
        for step, batch in zip(bar, _batches(samples, len(inks), recipe, seed), strict=True):
            images = (augment(inks[batch], _smallest(step, recipe)) - 0.5) / 0.5
            logits = network(images.contiguous(memory_format=torch.channels_last))
            loss = nn.functional.cross_entropy(logits, digits[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def _smallest(step: int, recipe: Recipe) -> float:
    """Big digits first: from small ones alone the network learns nothing in its first thousands of images."""
    fall = 2 * (_FIRST_DIGIT - recipe.smallest_digit) * step / recipe.steps
    return max(recipe.smallest_digit, _FIRST_DIGIT - fall)


def _training_inks(drawings: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Ink of samples, then of drawings, float32 [N, 1, 64, 64]; digits, int64 [N]; how many are samples."""
    side = round(INK_SHARE * _INK_SIDE)
    samples, digits = load_samples(held_out=False)
    drawn, drawn_digits = draw_many(drawings, side, seed)
    # A sample brings a tenth of its square as paper on every side, and its digit is to be as high as a drawing.
    enlarged = np.stack([enlarge(sample, side * 10 // 8) for sample in samples])
    inks = np.concatenate([_centred(enlarged), _centred(drawn)])
    return (
        torch.from_numpy(inks).unsqueeze(1),
        torch.from_numpy(np.concatenate([digits, drawn_digits])),
        len(samples),
    )


def _centred(inks: Ink) -> Ink:
    margin = (_INK_SIDE - inks.shape[1]) // 2
    return np.pad(inks, ((0, 0), (margin, margin), (margin, margin)))


def _batches(samples: int, total: int, recipe: Recipe, seed: int) -> Iterator[torch.Tensor]:
    """Indices for every step: samples and drawings each in random order, again and again."""
    generator = torch.Generator().manual_seed(seed)

    def batches(low: int, high: int, size: int) -> Iterator[torch.Tensor]:
        rounds = math.ceil(recipe.steps * size / (high - low))
        order = [torch.randperm(high - low, generator=generator) + low for _ in range(rounds)]
        return iter(torch.cat(order)[: recipe.steps * size].split(size))

    kinds = [(0, samples, recipe.batch_size - recipe.drawn), (samples, total, recipe.drawn)]
    return map(torch.cat, zip(*(batches(*kind) for kind in kinds if kind[2]), strict=True))


def _spec(architecture: str, recipe: Recipe, source: dict[str, object]) -> ModelSpec:
    return ModelSpec(
        name="digits" if architecture == DEMO else f"digits-{architecture}",
        architecture=architecture,
        num_classes=len(LABELS),
        labels="labels.json",
        preprocess=PreprocessSpec(recipe.crop_size, recipe.crop_size, "bilinear", (0.5,) * 3, (0.5,) * 3),
        engine=EngineSpec("torchscript", "model.safetensors", sha256=""),
        source=source,
        example="images/digit-3-white-on-black.png",
        built_with={
            "torch": torch.__version__,
            "cpu": cpu_name(),
            "gpu": None,
            "date": datetime.now(UTC).date().isoformat(),
        },
    )


def _write(output: Path, network: nn.Module, spec: ModelSpec) -> ModelBundle:
    weights = save({name: tensor.contiguous() for name, tensor in network.state_dict().items()})
    # Measured elsewhere first, so that an interrupted run leaves no bundle without its accuracy.
    with TemporaryDirectory() as draft:
        (Path(draft) / spec.engine.file).write_bytes(weights)
        spec = dataclasses.replace(spec, fidelity=fidelity(ModelBundle.write(Path(draft), spec, LABELS)))
    output.mkdir(parents=True, exist_ok=True)
    (output / spec.engine.file).write_bytes(weights)
    return ModelBundle.write(output, spec, LABELS)


def main() -> None:
    """Trains the demo and writes its bundle."""
    parser = argparse.ArgumentParser(prog="python -m examples.digits.train", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where the bundle is written")
    parser.add_argument("--arch", choices=RECIPES, default=DEMO, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--steps", type=int, help="batches to train on, for a quick try; default: the recipe's")
    arguments = parser.parse_args()
    bundle = train_bundle(arguments.output, arguments.arch, arguments.seed, arguments.steps, progress=True)
    print(f"{arguments.output}: {bundle.spec.fidelity['heldout_accuracy']:.2%} of the held-out images are read")


if __name__ == "__main__":
    main()
