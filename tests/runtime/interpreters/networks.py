"""Models of packages, as torch::deploy's tests have them."""

from __future__ import annotations

import torch
from torch import nn


class Simple(nn.Module):
    def __init__(self, rows, columns):
        super().__init__()
        self.weight = nn.Parameter(torch.rand(rows, columns))

    def forward(self, input):
        return self.weight + input


class Batched(nn.Module):
    def forward(self, a, b):
        return -a, -b

    def make_prediction(self, pairs):
        return [self.forward(*pair) for pair in pairs]

    def make_batch(self, items, options):
        size = int(options["max_bs"])
        return [items[place : place + size] for place in range(0, len(items), size)]


class MultiReturn(nn.Module):
    def forward(self, pair):
        a, b = pair
        return (a, b), (b, a)


class Counter(nn.Module):
    """Keeps state, and does what it is told."""

    def __init__(self):
        super().__init__()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(3))
        self.register_buffer("twin", self.seen[1:])

    def forward(self, what="count", *more):
        self.calls += 1
        return getattr(self, what)(*more)

    def count(self):
        return self.calls

    def interpreter(self):
        return torch.version.interp

    def add(self, place, value):
        self.seen[place] += value
        return self.seen

    def tail(self):
        return self.twin.tolist()

    def outside(self):
        return object()

    def nested(self):
        return {"parts": [(1, 2.5), [], {"x": {1}}], b"raw": None}
