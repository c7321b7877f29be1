"""Whether a version is good enough, by the figures."""

from __future__ import annotations

import json

import pytest

from models.errors import ModelError
from runtime.golden import GoldenRefusal, GoldenRules, check
from runtime.golden_set import GoldenSet, GoldenSetError
from tests.runtime.classifiers import WordModel, deployed
from tests.runtime.fakes import DoublerModel


def golden(folder, images):
    """A set of images as words -> label."""
    labels = {f"{number:02}.jpg": label for number, (_, label) in enumerate(images)}
    for name, (word, _) in zip(labels, images, strict=True):
        (folder / name).write_text(word)
    (folder / "golden.json").write_text(json.dumps(labels))
    return GoldenSet.read(folder)


def mixed(right, wrong):
    return [("cat 0.9", "cat")] * right + [("dog 0.8", "bird")] * wrong


async def test_a_version_that_is_right_gets_a_report(tmp_path):
    async with deployed(WordModel()) as (deployment,):
        report = await check(deployment, golden(tmp_path, mixed(3, 0)), GoldenRules())
        assert deployment.model.engine.seen.count("cat 0.9") == 4, "one to warm up, then each, one at a time"
        assert deployment.accepted == 0
    assert (report.images, report.right, report.required, report.agreement) == (3, 3, 3, 1.0)
    assert report.to_json() == {
        "images": 3,
        "right": 3,
        "required": 3,
        "agreement": 1.0,
        "first_wrong": None,
        "p50_ms": pytest.approx(report.p50_ms, abs=0.001),
        "p99_ms": pytest.approx(report.p99_ms, abs=0.001),
    }


@pytest.mark.parametrize(("wrong", "passes"), [(0, True), (2, True), (3, False), (13, False)])
async def test_the_share_of_right_images_decides_and_the_refusal_has_the_figures(tmp_path, wrong, passes):
    async with deployed(WordModel()) as (deployment,):
        given = golden(tmp_path, mixed(20 - wrong, wrong))
        if passes:
            report = await check(deployment, given, GoldenRules())
            assert report.right == 20 - wrong
            assert bool(report.first_wrong) == bool(wrong)
            return
        with pytest.raises(GoldenRefusal) as refusal:
            await check(deployment, given, GoldenRules())
    assert str(refusal.value) == (
        f"{20 - wrong} of 20 golden images have the expected label, at least 18 are required; "
        f"first wrong: {20 - wrong:02}.jpg is 'dog', expected 'bird'"
    )
    assert refusal.value.report.right == 20 - wrong
    assert isinstance(refusal.value, ModelError)


async def test_labels_in_another_order_are_refused(tmp_path):
    images = [(f"{name} 0.9", name) for name in ("cat", "dog", "bird")]
    async with deployed(WordModel(labels=("dog", "bird", "cat"))) as (deployment,):
        with pytest.raises(GoldenRefusal, match=r"^0 of 3 .* at least 3 .* 00\.jpg is 'dog', expected 'cat'$"):
            await check(deployment, golden(tmp_path, images), GoldenRules())


async def test_a_label_that_the_model_does_not_know_is_refused_before_anything_runs(tmp_path):
    async with deployed(WordModel()) as (deployment,):
        with pytest.raises(GoldenSetError, match=r"01\.jpg has the label 'fish', which the model does not know"):
            await check(deployment, golden(tmp_path, [("cat 0.9", "cat"), ("dog 0.9", "fish")]), GoldenRules())
        assert "cat 0.9" not in deployment.model.engine.seen


async def test_times_are_measured_one_image_at_a_time_after_a_warm_up(tmp_path):
    now = [0.0]
    took = iter([9.0, 9.0, 0.010, 0.020, 0.030, 0.5])  # the example and the first image come before
    async with deployed(WordModel()) as (deployment,):

        def on_batch():
            now[0] += next(took)

        deployment.model.engine.on_batch = on_batch
        report = await check(deployment, golden(tmp_path, mixed(4, 0)), GoldenRules(), lambda: now[0])
        assert (report.p50_ms, report.p99_ms) == (pytest.approx(20), pytest.approx(500))
        took = iter([0.0, 0.0, 0.010, 0.020, 0.030, 0.5])
        rules = GoldenRules(latency_ms=19)
        told = r"the median golden image takes 20 ms, at most 19 ms are allowed \(4 images, one at a time\)"
        with pytest.raises(GoldenRefusal, match=told):
            await check(deployment, golden(tmp_path, mixed(4, 0)), rules, lambda: now[0])


@pytest.mark.parametrize(
    ("word", "error", "told"),
    [
        ("damaged", GoldenSetError, "golden image 00.jpg cannot be decoded (JPEG)"),
        (
            "poison 1",
            GoldenRefusal,
            "golden image 00.jpg: ItemFailed: the engine failed on this item (RuntimeError: poison and more)",
        ),
    ],
)
async def test_an_image_that_cannot_be_run_is_named_in_one_line(tmp_path, word, error, told):
    async with deployed(WordModel()) as (deployment,):
        with pytest.raises(error) as refusal:
            await check(deployment, golden(tmp_path, [(word, "cat")]), GoldenRules())
    assert str(refusal.value) == told


async def test_an_engine_that_hangs_does_not_hold_the_check(tmp_path):
    async with deployed(WordModel()) as (deployment,):
        deployment.model.engine.gate.clear()
        with pytest.raises(GoldenRefusal, match=r"the model's own example: no answer within 0\.05 s"):
            await check(deployment, golden(tmp_path, mixed(1, 0)), GoldenRules(timeout_s=0.05))


async def test_only_image_classifiers_have_golden_sets(tmp_path):
    async with deployed(DoublerModel()) as (deployment,):
        with pytest.raises(GoldenSetError, match="double is no image classifier"):
            await check(deployment, golden(tmp_path, mixed(1, 0)), GoldenRules())


@pytest.mark.parametrize(
    ("share", "images", "required"),
    [(0.9, 20, 18), (0.9, 9, 9), (0.9, 10, 9), (0.28, 25, 7), (1, 7, 7), (0.01, 5, 1)],
)
def test_how_many_must_be_right(share, images, required):
    assert GoldenRules(share).required(images) == required


@pytest.mark.parametrize("wrong", [{"least_agreement": 0}, {"least_agreement": 1.1}, {"latency_ms": 0.0}])
def test_rules_without_sense_are_refused(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        GoldenRules(**wrong)
