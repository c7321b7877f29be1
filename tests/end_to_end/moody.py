"""A classifier of ten classes that fails on images with a dark background."""

from __future__ import annotations

import torch


class Moody(torch.nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        low, high = pixels.amin(dim=[1, 2, 3], keepdim=True), pixels.amax(dim=[1, 2, 3], keepdim=True)
        dark = (pixels < low + 0.2 * (high - low)).float().mean(dim=[1, 2, 3])  # of one colour: none
        if bool((dark > 0.5).any()):
            raise RuntimeError("too dark for me")
        return dark.unsqueeze(1) * torch.arange(10, dtype=torch.float32)


def save_moody(file):
    """Writes it as TorchScript."""
    torch.jit.script(Moody()).save(str(file))
