"""Versions that are not good enough: before they serve, in their first minute, in the shadow of another."""

from __future__ import annotations

import json
import shutil
import time
import urllib.request

import pytest

from benchmark.harness.store import DIGITS, WORDS, write_words
from snapserve.management import ManagementError
from tests.end_to_end.moody import save_moody
from tests.end_to_end.test_models_change import DIGIT, NEW, OLD, Managed, only_version_1

__all__ = ["only_version_1"]


def add_golden(folder):
    """The digits among the shipped images, by their words."""
    for image in DIGITS:
        word = folder / "golden" / WORDS[int(image.name.split("-")[1])]
        word.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, word)


@pytest.fixture(scope="module")
def managed(tmp_path_factory):
    made = Managed(tmp_path_factory.mktemp("models"))
    for name, words in (("shuffled", WORDS[1:] + WORDS[:1]), ("right", WORDS)):
        write_words(made.store / name, words)
        add_golden(made.store / name)
    write_words(made.store / "confused", tuple("0723456189"))
    add_golden(made.store)
    save_moody(made.store / "moody.pt")
    yield made.start()
    made.stop()


def ask(managed, image, version=""):
    request = urllib.request.Request(f"{managed.server.url}/classify?version={version}", image.read_bytes())
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)["predictions"][0]["label"]


def metric(managed, name, *labels):
    """The sum of a metric over its other labels."""
    with urllib.request.urlopen(f"{managed.server.url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    ours = [line for line in lines if line.startswith(name) and all(each in line for each in labels)]
    return sum(float(line.rpartition(" ")[2]) for line in ours)


def until(condition):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_version_with_shuffled_labels_stays_out_with_the_reason(managed):
    count = len(DIGITS)
    with pytest.raises(ManagementError, match=rf"0 of {count} golden images have the expected label") as refusal:
        managed.models.add("digits", "2", "shuffled", default=True)
    assert refusal.value.status == 422
    assert managed.answers() == {OLD}
    managed.models.add("digits", "2", "right", default=True)
    assert managed.answers() == {NEW}


def test_a_golden_set_can_be_named_with_its_rules(managed):
    with pytest.raises(ManagementError, match=r"has the label '\w+', which the model does not know"):
        managed.models.add("digits", "2", "confused", golden={"folder": "golden"})
    with pytest.raises(ManagementError, match=r"at most 0\.001 ms are allowed"):
        managed.models.add("digits", "2", "words", golden={"folder": "golden", "max_latency_ms": 0.001})
    managed.models.add("digits", "2", "words", golden={"folder": "golden", "least_agreement": 0.8})


def test_a_new_default_that_fails_on_images_is_rolled_back(managed):
    managed.models.add("digits", "2", "moody.pt", default=True, labels="words/labels.json")
    rollbacks = metric(managed, "snapserve_model_rollbacks_total")
    until(lambda: managed.answers(path="/classify") == {OLD})  # each worker's fifth failure may start it
    assert metric(managed, "snapserve_model_rollbacks_total") == rollbacks + 1
    assert managed.served() == [[("1", True), ("2", False)]] * 2


def test_a_shadow_is_compared_as_an_offline_calculation_compares(managed):
    managed.models.add("digits", "2", "confused")
    old = [ask(managed, image) for image in DIGITS]
    offline = [ask(managed, image, "2") == label for image, label in zip(DIGITS, old, strict=True)]
    assert 0 < sum(offline) < len(offline)
    managed.models.begin_shadow("digits", "2", 1.0)

    def compared(outcome=""):
        return metric(managed, "snapserve_shadow_images_total{", 'version="2"', f'outcome="{outcome}')

    for number, image in enumerate(DIGITS, 1):
        assert ask(managed, image) == old[number - 1], "clients see the old version"
        until(lambda number=number: compared() == number)
    assert (compared("agreed"), compared("differed")) == (sum(offline), len(offline) - sum(offline))
    with urllib.request.urlopen(f"{managed.server.url}/models/digits", timeout=30) as response:
        assert json.load(response)["shadow"]["share"] == 1.0
    default, _ = managed.models.show("digits")["versions"]
    reports = [each["shadow"] for each in default["workers"]]
    assert sum(each["compared"] for each in reports) == len(DIGITS)
    assert sum(each["agreed"] for each in reports) == sum(offline)
    managed.models.end_shadow("digits")
    assert ask(managed, DIGIT) == OLD
