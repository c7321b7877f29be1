"""Which parts of an input speak for a class: integrated gradients (https://arxiv.org/abs/1703.01365)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

_STEPS = 50


class IntegratedGradients:
    """Of a network of one input, against an input of zeros, by Gauss-Legendre quadrature."""

    def __init__(self, forward_func: Any) -> None:
        """Creates it; `forward_func`: takes a batch and returns scores [N, classes]."""
        self.forward_func = forward_func

    def attribute(self, inputs: Tensor, target: int | list[int] = 0, n_steps: int = _STEPS, **_: Any) -> Tensor:
        """What each value of the input adds to the score of a class.

        Args:
            inputs: a batch.
            target: the class, of all rows or of each.
            n_steps: points at which gradients are taken.

        Returns:
            A tensor of the shape of `inputs`.
        """
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        total = torch.zeros_like(inputs)
        for share, weight in zip((1 + nodes) / 2, weights / 2, strict=True):
            total += float(weight) * self._gradient(inputs * float(share), target)
        return total * inputs

    def _gradient(self, at: Tensor, target: int | list[int]) -> Tensor:
        at = at.detach().requires_grad_(True)
        with torch.enable_grad():
            scores = self.forward_func(at)
            if scores.dim() > 1:
                indices = torch.as_tensor(target, device=scores.device).expand(len(scores)).reshape(-1, 1)
                scores = scores.gather(1, indices)
            (gradient,) = torch.autograd.grad(scores.sum(), at)
        return gradient
