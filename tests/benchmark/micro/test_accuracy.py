import json

import numpy as np
import pytest

from benchmark.__main__ import main
from benchmark.micro.accuracy import result, wilson
from examples.digits.folders import write_folders
from tests.conftest import ROOT

LABELS = np.array([0, 1, 2, 3])


def test_accuracy_agreement_and_difference_are_counted():
    reference, answers = np.array([0, 1, 2, 0]), np.array([0, 1, 0, 3])
    found = result("a", answers, reference, LABELS)
    assert (found.right, found.agrees, found.photos) == (3, 2, 4)
    assert found.difference[0] == 0
    assert found.difference[1] < 0 < found.difference[2]
    same = result("b", reference, reference, LABELS)
    assert same.difference == (0, 0, 0) and same.agrees == 4


def test_what_is_always_worse_has_an_interval_without_zero():
    labels = np.zeros(400, int)
    answers = np.where(np.arange(400) % 4 == 0, 1, 0)
    low, high = result("a", answers, labels, labels).difference[1:]
    assert low < -25 < high < 0


def test_the_interval_is_wilsons():
    """The example of https://en.wikipedia.org/wiki/Binomial_proportion_confidence_interval, computed by hand."""
    low, high = wilson(5, 10)
    assert (low, high) == pytest.approx((23.66, 76.34), abs=0.01)
    assert wilson(10, 10)[1] == pytest.approx(100) and wilson(0, 10)[0] == pytest.approx(0, abs=1e-9)


def test_every_engine_of_a_bundle_is_asked_about_all_photos(tmp_path, capsys):
    validation, _ = write_folders(tmp_path, 0.4)
    kept = 3
    for folder in validation.iterdir():
        for file in sorted(folder.iterdir())[kept:]:
            file.unlink()
    words = ["accuracy", "--model", str(ROOT / "models/demo"), "--validation", str(validation)]
    assert main([*words, "--output", str(tmp_path / "report.json")]) == 0
    report = json.loads((tmp_path / "report.json").read_text())
    names = [row["name"] for row in report["results"]]
    assert names[0].startswith("eager fp32") and len(names) > 1
    assert all(row["photos"] == 30 and row["right"] >= 27 for row in report["results"])
    assert report["differing"]["weights"] == []
