"""How long engines take, in rounds in which each takes its turn: a disturbance of the machine hits all alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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

        Engines are chosen by it. What else the machine does can only slow a round down, and on a shared one it
        does so for many in a row: which engine's median it hits is luck.
        """
        return max(size * 1000 / ms for size, ms in self.fastest_ms.items())

    @property
    def lone_ms(self) -> float:
        """Milliseconds of the smallest batch that was timed."""
        return self.latency_ms[min(self.latency_ms)]

    def to_json(self) -> dict[str, Any]:
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


def measure(
    contestants: Mapping[str, tuple[Contestant, Sequence[Setting]]],
    sizes: tuple[int, ...],
    rounds: int,
    on_round: Callable[[int], None] = lambda number: None,
) -> dict[str, list[Speed]]:
    """Times every setting of every contestant in turn, round after round.

    One round before them is dropped: TorchScript and cuDNN settle per batch size.

    Args:
        contestants: by name: built, with the settings to try.
        sizes: batch sizes.
        rounds: that count.
        on_round: called before each turn of a round, with its number; 0 is the one that is dropped.
    """
    measured: dict[str, dict[Setting, dict[int, list[float]]]] = {
        name: {setting: {size: [] for size in sizes} for setting in settings}
        for name, (_, settings) in contestants.items()
    }
    for number in range(rounds + 1):
        on_round(number)
        for name, (contestant, settings) in contestants.items():
            for setting in settings:
                for size, ms in contestant.round(setting, sizes).items():
                    if number:
                        measured[name][setting][size].append(ms)
    return {name: [Speed(*each) for each in settings.items()] for name, settings in measured.items()}


def best_speed(speeds: Sequence[Speed]) -> Speed:
    """The highest throughput; among settings that are nearly as fast, the best for a lone request."""
    enough = ALIKE * max(speed.peak for speed in speeds)
    return min(
        (speed for speed in speeds if speed.peak >= enough),
        key=lambda speed: speed.fastest_ms[min(speed.fastest_ms)],
    )
