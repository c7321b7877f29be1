"""`table.json` of a bundle: what the optimiser has tried, how it was judged, how fast it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from models.bundles.spec import EngineSpec
from models.errors import BundleError

TABLE_FILE = "table.json"
_MAX_BYTES = 1_000_000  # a long table has 30 KB
_NEARLY = 0.97  # of the best throughput; larger batches would only make their images wait longer
_UNKNOWN = 32  # batch size where none was timed


@dataclass(frozen=True)
class Table:
    """The optimiser's record.

    Attributes:
        document: the file's content, to be shown; empty where the bundle has none.
    """

    document: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Table:
        """Reads a bundle's table, if it has one.

        Raises:
            BundleError: too long, or no JSON object.
        """
        file = folder / TABLE_FILE
        try:
            with file.open("rb") as stream:
                content = stream.read(_MAX_BYTES + 1)
        except FileNotFoundError:
            return cls()
        except OSError:
            raise BundleError(f"{file}: cannot be read") from None
        if len(content) > _MAX_BYTES:
            raise BundleError(f"{file}: longer than {_MAX_BYTES:,} bytes")
        return cls(_parse(content, file))

    def latency_ms(self, name: str, engine: EngineSpec) -> dict[str, float]:
        """Batch size -> median milliseconds of one batch, of a candidate at the engine's setting; or empty."""
        return _milliseconds(self._speed(name, engine).get("latency_ms"))

    def fastest_ms(self, name: str, engine: EngineSpec) -> dict[str, float]:
        """Batch size -> milliseconds of its fastest round: what disturbs a machine never makes it faster."""
        rounds = self._speed(name, engine).get("rounds_ms")
        pairs = rounds.items() if isinstance(rounds, dict) else ()
        return _milliseconds({size: min(each) for size, each in pairs if _is_timed(each)})

    def refusal(self, name: str) -> str:
        """Why a candidate is out, in one line; "" where it is not, or was not tried."""
        found = [each for each in _objects(self.document.get("candidates")) if each.get("name") == name]
        return str(found[0].get("refusal") or "") if found else ""

    def _speed(self, name: str, engine: EngineSpec) -> dict[str, Any]:
        for candidate in _objects(self.document.get("candidates")):
            for speed in _objects(candidate.get("speeds")) if candidate.get("name") == name else ():
                if (speed.get("threads"), speed.get("streams")) == (engine.threads, engine.streams):
                    return speed
        return {}


def images_per_s(milliseconds: Mapping[str, float]) -> float:
    """At the batch size where they are most; 0 where none was timed. milliseconds: of one batch, by its size."""
    return max((1000 * int(size) / ms for size, ms in _milliseconds(milliseconds).items()), default=0.0)


def best_batch_size(milliseconds: Mapping[str, float]) -> int:
    """The smallest batch size that is nearly as fast per image as the fastest; 32 where none was timed.

    Args:
        milliseconds: of one batch, by its size.
    """
    speeds = {int(size): int(size) / ms for size, ms in _milliseconds(milliseconds).items()}
    enough = _NEARLY * max(speeds.values(), default=0.0)
    return min((size for size, speed in speeds.items() if speed >= enough), default=_UNKNOWN)


def _parse(content: bytes, file: Path) -> dict[str, Any]:
    try:
        document = json.loads(content, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BundleError(f"{file}: not valid JSON") from None
    if not isinstance(document, dict):
        raise BundleError(f"{file}: expected an object")
    return document


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON, and no browser reads it")


def _objects(value: Any) -> list[dict[str, Any]]:
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def _milliseconds(value: Any) -> dict[str, float]:
    """Those of a batch size; the table is for people, and what is odd in it is no reason to refuse a model."""
    pairs = value.items() if isinstance(value, dict) else ()
    return {size: ms for size, ms in pairs if size.isdecimal() and int(size) and _is_number(ms) and ms > 0}


def _is_timed(rounds: Any) -> bool:
    return isinstance(rounds, list) and bool(rounds) and all(map(_is_number, rounds))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)
