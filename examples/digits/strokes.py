"""Digits drawn by code with a round brush: the shapes and pens that eight by eight pixels cannot show."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from examples.digits.digits import Ink

Points = NDArray[np.float64]

_SUPERSAMPLING = 2
_FONT_SHARE = 0.08

# Per digit its shapes, each a line of strokes on a page of 10 by 10, x to the right, y down. A stroke is a list of
# points x,y joined by straight lines, or by a smooth curve after a ~; strokes are parted by a bar.
SHAPES = {
    0: (
        "~ 5,0 1.5,2 0.5,5 1.5,8 5,10 8.5,8 9.5,5 8.5,2 5,0",
        "~ 6.5,0.5 3,0.5 0.8,4 1.5,8.5 5,10 8.6,7.5 9,3 6,0.2 4,1",
    ),
    1: (
        "5,0 5,10",
        "2.5,3 5.5,0 5.5,10",
        "3.5,1.8 5.5,0 5.5,10",
        "2.5,2.5 5.5,0 5.5,10 | 2.5,10 8.5,10",
        "1,4.5 6,0 6,10",
    ),
    2: (
        "~ 1,3 2,1 5,0 8,1 8.5,3.5 6.5,6 3,8.5 1,10 | 1,10 9,10",
        "~ 1.5,2.5 4,0.2 7.5,1 8,4 5,7.5 2,9.6 1.5,8 3.5,8 6,9.6 9.5,9.5",
        "~ 1,1.5 4.5,0 8,1.5 7.5,4.5 1,10 | ~ 1,10 4,9.3 9,10",
        "1,0.5 8.5,0.5 1,10 9,10",
    ),
    3: (
        "~ 1,1.5 4.5,0 8,1.5 7.3,4 4,5 | ~ 4,5 8,5.8 9,8 6,10 1,9",
        "1,0 8.5,0 4.5,4 | ~ 4.5,4 8,5 9,7.5 6.5,10 1,9",
        "~ 1.5,0.5 6.5,0.2 8,2.3 6,4.6 3.8,5 6.5,5.3 8.6,7.5 6,9.8 1,9.5",
        "~ 1.5,0.8 7.5,1 5,4.3 | ~ 5,4.3 8.3,6 7,9.3 1,9.8",
    ),
    4: (
        "3,0 1,6 9,6 | 7,2.5 7,10",
        "7,10 7,0 0.5,7 9.5,7",
        "6,0 0.5,6 9,6 | 6.2,3.5 6.2,10",
        "~ 2,0 1.3,3.5 2.5,5.3 8,5 | 8,0 7.5,10",
        "2,0 2,5.5 8,5.5 | 8,0 8,10",
    ),
    5: (
        "8.5,0 2,0 1.5,4.5 | ~ 1.5,4.5 5,3.8 8.5,5.5 8.5,8 5.5,10 1,9",
        "~ 8.5,0.3 4,0.3 2.2,1.5 2,4.3 5,4 8.3,5.5 8.3,8.5 5,10 1,9",
        "~ 2.5,0.8 2,4.5 5.5,4.2 8.3,6.5 6.5,9.6 1,9.6 | 2.5,0.5 9,0",
        "9,0 3,0 2.5,4.5 6,4.5 | ~ 6,4.5 8.6,5.8 8.2,9 5,10 1.5,10",
    ),
    6: (
        "~ 7.5,0 4,2 1.5,5.5 1.5,8.5 4.5,10 8,9 8.5,6.8 6,5.3 3,6 1.5,7.5",
        "~ 5,0 2,4.5 1,7.5 3,10 7.5,9.5 8.5,7 6,5.3 2.5,6 1.3,7.5",
        "~ 8.5,1.2 6,0 2.5,2 1,6 2.5,9.5 6,10 8.7,8 7.5,5.2 4,5 1.3,7",
        "~ 3,0 2,4 2,9 5,10 7.5,8.3 6,6 2.2,7.3",
    ),
    7: (
        "1,0 9,0 4,10",
        "1,0 9,0 4,10 | 3,5 8.5,5",
        "1,2 1,0 9,0 4,10",
        "1,0.5 9,0 | ~ 9,0 6,4 4.5,10",
        "~ 0.5,1.2 3,0 5.5,0.8 9,0 | 9,0 3.5,10 | 3.5,5.2 8,4.8",
    ),
    8: (
        "~ 8,1.5 5,0 2,1.5 2.5,3.7 5,5 8,6.5 8.5,8.5 5,10 1.5,8.5 2,6.5 5,5 7.7,3.7 8,1.5",
        "~ 5,0 2.2,2.3 5,4.7 7.8,2.3 5,0 | ~ 5,4.7 1.3,7.3 5,10 8.7,7.3 5,4.7",
        "~ 8,0.8 4,0 1.8,2 4.5,4.5 7.8,7.5 5,10 2,8 4.5,5 8.5,0.5",
    ),
    9: (
        "~ 8,2.5 6,0.2 3,0.5 1.5,2.8 3,5 6,4.8 8,2.5 | 8,2.2 7.5,10",
        "~ 8,2.5 5.5,0 2,1 1.8,4 5,5.3 8,3 | ~ 8,2 8.4,6 7,9.2 2.5,9.7",
        "~ 7.5,1.5 4.5,0 1.5,2 3,5 7.3,3.5 7.8,1 7,6 4.5,10",
    ),
}


def draw(digit: int, side: int, generator: np.random.Generator) -> Ink:
    """Draws `digit` with a random shape, hand and brush; float32 [side, side] in 0 … 1, filling the square."""
    large = side * _SUPERSAMPLING
    page = Image.new("L", (large, large))
    if generator.random() < _FONT_SHARE:
        _print(page, digit, generator)
    else:
        _write(page, digit, generator)
    return np.asarray(page.reduce(_SUPERSAMPLING)).astype(np.float32) / np.float32(255)


def draw_many(count: int, side: int, seed: int) -> tuple[Ink, NDArray[np.int64]]:
    """`count` drawings, float32 [count, side, side], and their digits, int64 [count]: 0 to 9 in turn."""
    generator = np.random.default_rng(seed)
    digits = np.arange(count) % 10
    return np.stack([draw(int(digit), side, generator) for digit in digits]), digits


def _write(page: Image.Image, digit: int, generator: np.random.Generator) -> None:
    lines = _lines(str(generator.choice(SHAPES[digit])))
    brush = generator.uniform(0.04, 0.2)  # as a share of the digit's height
    pen = ImageDraw.Draw(page)
    for line in _fit(_by_hand(lines, generator), 1 - brush):
        _brush(pen, (line + 0.5) * page.width, brush * page.width)


def _lines(shape: str) -> list[Points]:
    """The strokes of a shape as lines through many points, float64 [points, 2] in 0 … 1."""
    lines = []
    for stroke in shape.split("|"):
        points = np.array([point.split(",") for point in stroke.strip("~ ").split()], np.float64) / 10
        lines.append(_curve(points) if "~" in stroke else points)
    return lines


def _print(page: Image.Image, digit: int, generator: np.random.Generator) -> None:
    font = ImageFont.load_default(size=page.width * 1.25)
    centre = (page.width / 2, page.width / 2)
    weight = int(generator.integers(0, max(1, page.width // 20)))
    ImageDraw.Draw(page).text(centre, str(digit), 255, font, anchor="mm", stroke_width=weight)


def _by_hand(lines: list[Points], generator: np.random.Generator) -> list[Points]:
    """Narrows the digit and bends the unit square smoothly, so that strokes which meet still nearly meet."""
    narrow = generator.uniform(0.5, 0.95)
    wave = generator.normal(0, 0.035, (2, 2))
    phase = generator.uniform(0, 2 * math.pi, (2, 2))
    moved = []
    for line in lines:
        bend = (np.sin(1.5 * math.pi * line[:, None, :] + phase) * wave).sum(axis=2)
        moved.append((line + bend + generator.normal(0, 0.012, 2)) * (narrow, 1))
    return moved


def _fit(lines: list[Points], side: float) -> list[Points]:
    """Centres the digit on 0 and scales it to a square of `side`, keeping its proportions."""
    points = np.concatenate(lines)
    low, high = points.min(axis=0), points.max(axis=0)
    return [(line - (low + high) / 2) * (side / (high - low).max()) for line in lines]


def _curve(points: Points, steps: int = 8) -> Points:
    """A Catmull-Rom spline through `points` (https://en.wikipedia.org/wiki/Catmull-Rom_spline)."""
    closed = np.allclose(points[0], points[-1])
    before, after = (points[-2], points[1]) if closed else (points[0], points[-1])
    p = np.vstack([before, points, after])
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    a, b, c, d = p[:-3], p[1:-2], p[2:-1], p[3:]
    curve = 0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2 + (3 * b - a - 3 * c + d) * t**3)
    return np.vstack([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])


def _brush(pen: ImageDraw.ImageDraw, line: Points, width: float) -> None:
    pen.line([tuple(point) for point in line], fill=255, width=max(1, round(width)))
    for x, y in line:
        pen.circle((x, y), width / 2, fill=255)
