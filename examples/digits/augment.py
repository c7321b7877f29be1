"""From ink to training images, a batch at a time: place, slant, weight, edges, colours, light, noise."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

INK_SHARE = 3 / 4  # height of a digit in its square of ink; the margin keeps it whole when it is turned
_LARGEST = 0.95  # height of a digit as a share of the image's


class Augmenter:
    """Turns ink into images as people might upload them; all its choices come from one seed.

    Args:
        side: of the images, in pixels.
        seed: equal seeds make equal images.
    """

    def __init__(self, side: int, seed: int) -> None:
        self._side = side
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, ink: torch.Tensor, smallest: float) -> torch.Tensor:
        """Makes one image of each ink.

        Args:
            ink: float32 [N, 1, n, n] in 0 … 1, a digit being INK_SHARE of n high.
            smallest: height of the smallest digits as a share of the images'.

        Returns:
            float32 [N, 3, side, side] in 0 … 1, RGB.
        """
        placed = self._edges(self._weight(self._place(ink, smallest)))
        return self._disturb(self._colour(placed)).clamp(0, 1)

    def _uniform(self, count: int, low: float, high: float) -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=self._generator) * (high - low) + low

    def _chance(self, count: int, probability: float) -> torch.Tensor:
        return torch.rand(count, 1, 1, 1, generator=self._generator) < probability

    def _normal(self, *shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=self._generator)

    def _place(self, ink: torch.Tensor, smallest: float) -> torch.Tensor:
        """Scale, shift, turn, slant, stretch, and a smooth bend."""
        count = len(ink)
        # As many small digits as large ones: the small ones are the harder to learn.
        fill = torch.exp(self._uniform(count, math.log(smallest), math.log(_LARGEST))).flatten()
        room = (1 - fill)[:, None]
        shift = (torch.rand(count, 2, generator=self._generator) * 2 - 1) * room
        angle = (self._normal(count) * math.radians(7)).clamp(-0.35, 0.35)
        slant, stretch = self._normal(count) * 0.12, torch.exp(self._normal(count) * 0.1)
        cos, sin = torch.cos(angle), torch.sin(angle)
        turn = torch.stack(
            [torch.stack([cos / stretch, sin + slant], 1), torch.stack([-sin, cos * stretch], 1)], 1
        )
        turn = turn * (INK_SHARE / fill)[:, None, None]
        theta = torch.cat([turn, -turn @ shift[..., None]], 2)
        grid = functional.affine_grid(theta, [count, 1, self._side, self._side], align_corners=False)
        strength = self._uniform(count, 0, 0.045)
        bend = functional.grid_sample(
            self._normal(count, 2, 5, 5) * strength, grid, padding_mode="border", align_corners=False
        )
        return functional.grid_sample(ink, grid + bend.permute(0, 2, 3, 1), align_corners=False)

    def _weight(self, ink: torch.Tensor) -> torch.Tensor:
        """Thicker strokes for some; thinner ones come from the drawings and from `_edges`."""
        count = len(ink)
        thick = functional.max_pool2d(ink, 3, 1, 1)
        ink = torch.where(self._chance(count, 0.2), thick, ink)
        return torch.where(self._chance(count, 0.05), functional.max_pool2d(thick, 3, 1, 1), ink)

    def _edges(self, ink: torch.Tensor) -> torch.Tensor:
        """From soft, as the enlarged samples are, to crisp, as a drawing program makes them."""
        count = len(ink)
        sharpness = torch.exp(self._uniform(count, 0, math.log(4)))
        crisp = ((ink - self._uniform(count, 0.4, 0.55)) * sharpness + 0.5).clamp(0, 1)
        ink = torch.where(self._chance(count, 0.5), crisp, ink)
        return torch.where(self._chance(count, 0.2), functional.avg_pool2d(ink, 3, 1, 1), ink)

    def _colour(self, ink: torch.Tensor) -> torch.Tensor:
        """Dark on light or light on dark, mostly grey, sometimes coloured, at varied contrast."""
        count = len(ink)
        light = self._chance(count, 0.5).float()
        ground = torch.where(self._chance(count, 0.4), self._uniform(count, 0, 0.35), torch.zeros(1))
        contrast = torch.where(self._chance(count, 0.5), self._uniform(count, 0.45, 1), torch.ones(1))
        tint = torch.rand(count, 3, 1, 1, generator=self._generator)
        tint = torch.where(self._chance(count, 0.25), tint / tint.amax(1, keepdim=True), torch.ones(1))
        level = ground + (1 - ground) * contrast * tint * ink
        return light * level + (1 - light) * (1 - level)

    def _disturb(self, images: torch.Tensor) -> torch.Tensor:
        """Uneven light and sensor noise."""
        count = len(images)
        ramp = torch.linspace(-1, 1, self._side)
        across, down = (self._uniform(count, -0.15, 0.15) * self._chance(count, 0.3) for _ in range(2))
        images = images + across * ramp + down * ramp[:, None]
        noise = self._uniform(count, 0, 0.1) * self._chance(count, 0.4)
        return images + noise * self._normal(*images.shape)
