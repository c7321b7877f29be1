"""How long engines take, in rounds in which each takes its turn: a disturbance of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from models.optimize.contestant import Contestant, Setting

CPU_BATCH_SIZES = (1, 2, 4, 8, 16, 32)
CUDA_BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
# Settings that reach this share of the best throughput are as good: then the lone request decides.
ALIKE = 0.95


@dataclass(frozen=True)
class Speed:
    """What one setting of one candidate does.

    Attributes:
        setting: threads and streams.
        rounds_ms: batch size -> milliseconds of one batch, round by round.
    """

    setting: Setting
    rounds_ms: Mapping[int, Sequence[float]] = field(default_factory=dict)

    @property
    def latency_ms(self) -> dict[int, float]:
        """Batch size -> median milliseconds of one batch."""
        return {size: median(rounds) for size, rounds in self.rounds_ms.items()}

    @property
    def best(self) -> tuple[float, int]:
        """Images per second at the batch size where they are highest, and that size."""
        return max((size * 1000 / ms, size) for size, ms in self.latency_ms.items())

    @property
    def fastest_ms(self) -> dict[int, float]:
        """Batch size -> milliseconds of its fastest round."""
        return {size: min(rounds) for size, rounds in self.rounds_ms.items()}

    @property
    def peak(self) -> float:
        """Images per second at the best batch size, by its fastest round.

        Engines are chosen by it, and the table shows it. What else the machine does can only slow a round down,
        and on a shared one it does so for many in a row: which engine's median it hits is luck.
        """
        return max(size * 1000 / ms for size, ms in self.fastest_ms.items())

    @property
    def lone_ms(self) -> float:
        """Milliseconds of the smallest batch that was timed."""
        return self.latency_ms[min(self.latency_ms)]

    def to_json(self) -> dict[str, Any]:
        """For the bundle's table."""
        return {
            "threads": self.setting.threads,
            "streams": self.setting.streams,
            "latency_ms": {str(size): round(ms, 3) for size, ms in self.latency_ms.items()},
            "rounds_ms": {str(size): [round(ms, 3) for ms in rounds] for size, rounds in self.rounds_ms.items()},
        }


def settings_for(device: str, cores: int, has_streams: bool) -> tuple[Setting, ...]:
    """One thread, all cores on each operator, and all cores on as many parts of the batch."""
    if device == "cuda" or cores == 1:
        return (Setting(1),)
    return (Setting(1), Setting(cores), *((Setting(cores, cores),) if has_streams else ()))


class Rounds:
    """Measurements of one contestant, which takes its turn in each round."""

    def __init__(self, sizes: tuple[int, ...], settings: Sequence[Setting]) -> None:
        """sizes: batch sizes; settings: that are to be measured."""
        self._sizes = sizes
        self._measured: dict[Setting, dict[int, list[float]]] = {
            setting: {size: [] for size in sizes} for setting in settings
        }

    def settle(self, contestant: Contestant) -> None:
        """A round that does not count: TorchScript and cuDNN settle per batch size."""
        for setting in self._measured:
            contestant.round(setting, self._sizes)

    def add(self, contestant: Contestant) -> None:
        """Measures every setting at every batch size once."""
        for setting, rounds in self._measured.items():
            for size, ms in contestant.round(setting, self._sizes).items():
                rounds[size].append(ms)

    @property
    def speeds(self) -> list[Speed]:
        """One for each setting."""
        return [
            Speed(setting, {size: list(ms) for size, ms in rounds.items()})
            for setting, rounds in self._measured.items()
        ]


def best_speed(speeds: Sequence[Speed]) -> Speed:
    """The highest throughput; among settings that are nearly as fast, the best for a lone request."""
    enough = ALIKE * max(speed.peak for speed in speeds)
    return min(
        (speed for speed in speeds if speed.peak >= enough),
        key=lambda speed: speed.fastest_ms[min(speed.fastest_ms)],
    )
