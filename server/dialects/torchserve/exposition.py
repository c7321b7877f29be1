"""TorchServe's variant of Prometheus' text format, a comma before each brace; our own metrics follow."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Metric, generate_latest

from server.operations.torchserve_metrics import HOST, OF_HOST, SPECS, Spec

_TOTAL, _CREATED = "_total", "_created"
_ESCAPED = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_SUFFIX = re.compile(r"_(?:total|created|bucket|count|sum)$")


def exposition(
    families: Iterable[Metric], of_host: Mapping[str, float], hostname: str, wanted: Collection[str]
) -> bytes:
    """All metrics as text.

    Args:
        families: that were collected.
        of_host: figures of the machine, by name.
        hostname: that labels them.
        wanted: names of those that are shown; empty: all.
    """
    by_name = {each.name: each for each in families}
    lines: list[str] = []
    for spec in SPECS.values():
        found = by_name.pop(spec.name, None) or by_name.pop(spec.name.removesuffix(_TOTAL), None)
        if not wanted or spec.name in wanted:
            lines += _lines(spec, found, of_host, hostname)
    others = [each for each in by_name.values() if not wanted or _names(each) & set(wanted)]
    registry = CollectorRegistry()
    registry.register(_Given(others))
    return "".join(f"{line}\n" for line in lines).encode() + generate_latest(registry)


def _lines(spec: Spec, family: Metric | None, of_host: Mapping[str, float], hostname: str) -> Iterator[str]:
    yield f"# HELP {spec.name} {spec.help}"
    yield f"# TYPE {spec.name} {spec.kind}"
    if spec.name in OF_HOST:
        labels = dict(zip(HOST, ("Host", hostname), strict=True))
        yield _line(spec, labels, of_host[spec.name])
    for sample in family.samples if family else ():
        if not sample.name.endswith(_CREATED):
            yield _line(spec, sample.labels, sample.value)


def _line(spec: Spec, labels: Mapping[str, str], value: float) -> str:
    pairs = "".join([f'{name}="{labels[name].translate(_ESCAPED)}",' for name in spec.labels])
    return f"{spec.name}{{{pairs}}} {float(value)!r}"


def _names(family: Metric) -> set[str]:
    """What a family may be asked for by."""
    return {family.name, *(sample.name for sample in family.samples)} | {
        _SUFFIX.sub("", sample.name) for sample in family.samples
    }


class _Given:
    """Families that were collected already, as a collector."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families."""
        return self._families
