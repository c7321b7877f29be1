"""docs/pictures.md has the figures of the committed results, and what it promises holds in them."""

from __future__ import annotations

import json
from pathlib import Path

from benchmark.__main__ import main
from benchmark.micro.memory import ALLOWED_MB
from models.images.preprocess import MARGIN

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs/pictures.md").read_text()
PACKAGES = ("pillow", "pillow-simd")


def result(name):
    return json.loads((ROOT / f"benchmark/results/{name}.json").read_text())


def test_the_table_of_steps_is_the_committed_results():
    both = [result(f"micro-{package}") for package in PACKAGES]
    assert "post" in both[1]["pillow"]
    for name in both[0]["64 KB"]["median_ms"]:
        figures = [each[size]["median_ms"][name] for size in ("64 KB", "12 MP") for each in both]
        assert f"| {name} | " + " | ".join(f"{figure:.2f}" for figure in figures) + " |" in TEXT


def test_the_text_has_the_ratios():
    pillow = result("micro-pillow")
    assert f"{pillow['64 KB']['faster_than_preset']:.2f} times as fast" in TEXT
    assert f"{pillow['12 MP']['share_of_full']:.3f} of a full decode" in TEXT
    assert pillow["12 MP"]["share_of_full"] <= 0.35


def test_the_table_of_margins_is_the_committed_result():
    rows = result("agreement")["rows"]
    for row in rows:
        levels = f"| {row['margin']:g} | {row['mean_levels']:.2f} | {row['p99_levels']} | {row['max_levels']} "
        scores = f"{row['score_difference_p99']:.3f} | {row['score_difference_max']:.3f} |"
        assert f"{levels}| {row['top1_agreement']:.1%} | {scores}" in TEXT
    assert any(row["margin"] == MARGIN for row in rows)
    assert f"The margin is {MARGIN}:" in TEXT


def test_photos_are_compared_as_they_are_and_scaled(tmp_path):
    output = tmp_path / "levels.json"
    command = ["agreement", "--photos", str(ROOT / "images"), "--scales", "1", "2", "--count", "1"]
    assert main([*command, "--output", str(output)]) == 0
    whole, _, scaled, bicubic = json.loads(output.read_text())["rows"]
    assert (whole["decoded_at"], whole["max_levels"]) == ("1/1", 1)
    assert (scaled["decoded_at"], bicubic["interpolation"]) == ("1/2", "bicubic")
    assert scaled["max_levels"] > 1, "it was scaled"


def test_the_table_of_photos_is_the_committed_result():
    for row in result("photo-levels")["rows"]:
        most = f"{row['max_levels']} | {row['max_of_the_median_photo']}"
        figures = f"{row['mean_levels']:.2f} | {row['p99_levels']} | {most}"
        assert f"| {row['decoded_at']} | {row['interpolation']} | {row['photos']} | {figures} |" in TEXT


def test_memory_did_not_grow():
    memory = result("memory")
    assert memory["pictures"] >= 100_000
    assert memory["growth_mb"] < ALLOWED_MB
    assert f"{memory['resident_mb'][0]:.1f} MB" in TEXT
    assert f"{memory['growth_mb']:.2f} MB above" in TEXT
