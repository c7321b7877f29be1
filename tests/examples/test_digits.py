"""The demo bundle reads digits as well as it says, and the script that trained it still works."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from examples.digits import measure, train
from examples.digits.digits import load_samples, split, write_images
from examples.digits.measure import accuracy, predictions, sample_images
from models.bundles.bundle import ModelBundle

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "models" / "demo"
IMAGES = ROOT / "images"


@pytest.fixture(scope="module")
def demo() -> ModelBundle:
    return ModelBundle.load(DEMO)


def test_the_bundle_is_small_and_names_the_ten_digits(demo: ModelBundle) -> None:
    assert demo.labels == tuple("0123456789")
    assert demo.file.stat().st_size <= 6_000_000


def test_train_and_held_out_samples_are_disjoint_and_complete() -> None:
    _, held_out_digits = load_samples(held_out=True)
    _, train_digits = load_samples(held_out=False)
    assert len(train_digits) + len(held_out_digits) == 1797
    assert np.bincount(held_out_digits).min() >= 35
    trained, held_out = split(np.arange(1797) % 10)
    assert sorted([*trained, *held_out]) == list(range(1797))


def test_held_out_digits_of_both_polarities_are_read_as_well_as_the_bundle_says(demo: ModelBundle) -> None:
    measured, images = accuracy(demo, sample_images(True))
    assert images == demo.spec.fidelity["heldout_images"] == 2 * len(load_samples(held_out=True)[1])
    assert measured >= 0.98
    # Two images may fall to the other side on another CPU.
    assert measured == pytest.approx(demo.spec.fidelity["heldout_accuracy"], abs=2.5 / images)


def test_the_sample_images_are_read(demo: ModelBundle) -> None:
    files = sorted(IMAGES.glob("digit-*"))
    shown = [int(file.name.split("-")[1]) for file in files]
    assert shown == list(range(10))
    samples = zip((file.read_bytes() for file in files), shown, strict=True)
    assert sum(read == digit for read, digit in predictions(demo, samples)) >= 9


def test_the_sample_images_can_be_made_again(tmp_path: Path) -> None:
    write_images(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in IMAGES.glob("digit-*")}


@pytest.mark.parametrize("architecture", train.RECIPES)
def test_a_short_training_writes_a_bundle(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "sample_images", lambda held_out, smallest: islice(sample_images(held_out), 20))
    monkeypatch.setattr(measure, "drawn_images", lambda smallest: islice(sample_images(True), 20))
    written = train.train_bundle(tmp_path / "bundle", architecture, seed=1, steps=2)
    assert ModelBundle.load(tmp_path / "bundle") == written
    assert written.spec.fidelity["heldout_images"] == 20
    assert written.spec.source["steps"] == 2
