"""How thoroughly the optimiser looks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from models.optimize.fidelity import LIMITS, Limits


@dataclass(frozen=True)
class Effort:
    """How thoroughly to look.

    Attributes:
        rounds: most measurements per batch size, in turns; one more before them drops what is hopeless.
        batch_sizes: that are timed; empty takes those of the device.
        tries_streams: whether to run parts of a batch at the same time, where an engine can.
        cores: most threads; 0 takes all cores.
        accept_weak_gate: choose int8 on the word of few images.
        limits: by precision, instead of the defaults.
        is_isolated: give each candidate a process of its own.
        at_once: most candidates that are in memory at the same time; 0: as many as fit.
    """

    rounds: int = 7
    batch_sizes: tuple[int, ...] = ()
    tries_streams: bool = True
    cores: int = 0
    accept_weak_gate: bool = False
    limits: Mapping[str, Limits] = dataclasses.field(default_factory=lambda: LIMITS)
    is_isolated: bool = True
    at_once: int = 0
