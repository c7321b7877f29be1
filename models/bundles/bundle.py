"""A model bundle: a folder with `model.json`, the graph or weights, and the labels."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from models.bundles.labels import Labels, load_labels, write_labels
from models.bundles.spec import MEASURED, EngineSpec, ModelSpec, spec_from_json
from models.bundles.text import read_json
from models.errors import BundleError

MANIFEST = "model.json"


@dataclass(frozen=True)
class ModelBundle:
    """A verified model: its facts, its labels and the file that runs.

    Attributes:
        spec: what `model.json` says.
        labels: one per class, in the order of the outputs.
        file: the graph or the weights; its hash matched when the bundle was loaded.
    """

    spec: ModelSpec
    labels: Labels
    file: Path

    @classmethod
    def load(cls, folder: Path) -> ModelBundle:
        """Reads and verifies a bundle. Nothing is executed.

        Raises:
            BundleError: a file is missing, damaged or contradicts another; one line that names the file.
        """
        spec = _read_manifest(folder / MANIFEST)
        file = _verified_engine(folder, spec.engine)
        labels_file = _inside(folder, spec.labels)
        if spec.labels_sha256 is not None:
            _verify(labels_file, spec.labels_sha256)
        labels = load_labels(labels_file)
        if len(labels) != spec.num_classes:
            raise BundleError(
                f"{labels_file}: {len(labels)} labels, but {MANIFEST} says {spec.num_classes} classes"
            )
        return cls(spec, labels, file)

    def with_engine(self, name: str) -> ModelBundle:
        """The same model on another engine of the bundle; what was measured of the first one is left out.

        Raises:
            BundleError: there is none of that name, or its files are damaged.
        """
        engine = self.spec.engines.get(name)
        if engine is None:
            there = ", ".join(self.spec.engines) or "only its default"
            raise BundleError(f"{self.file.parent}: has no engine {name!r}, it has {there}")
        if engine == self.spec.engine:
            return self
        spec = dataclasses.replace(self.spec, engine=engine, fidelity={}, latency_ms={})
        return ModelBundle(spec, self.labels, _verified_engine(self.file.parent, engine))

    @classmethod
    def write(cls, folder: Path, spec: ModelSpec, labels: Labels) -> ModelBundle:
        """Writes labels and manifest beside a graph that already lies in `folder`, and loads the result.

        The hashes in `spec` are filled in here. The manifest is moved into place last, so a half-written
        bundle is never loadable.
        """
        write_labels(folder / spec.labels, labels)
        spec = dataclasses.replace(
            spec,
            labels_sha256=sha256_of(folder / spec.labels),
            engine=_hashed(folder, spec.engine),
            engines={name: _hashed(folder, engine) for name, engine in spec.engines.items()},
        )
        draft = folder / f".{MANIFEST}"
        draft.write_text(json.dumps(spec.to_json(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
        draft.replace(folder / MANIFEST)
        return cls.load(folder)


def sha256_of(file: Path) -> str:
    """The file's SHA-256 in hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_manifest(file: Path) -> ModelSpec:
    if not file.is_file():
        raise BundleError(f"{file}: cannot be read (is this folder a model bundle?)")
    spec = spec_from_json(ModelSpec, read_json(file, "manifest"), str(file))
    if spec.num_classes == MEASURED:
        raise BundleError(f"{file}: num_classes {spec.num_classes} must be at least 1")
    return spec


def _hashed(folder: Path, engine: EngineSpec) -> EngineSpec:
    companions = {name: sha256_of(folder / name) for name in engine.companions}
    return dataclasses.replace(engine, sha256=sha256_of(folder / engine.file), companions=companions)


def _verified_engine(folder: Path, engine: EngineSpec) -> Path:
    for name, sha256 in {**engine.companions, engine.file: engine.sha256}.items():
        _verify(_inside(folder, name), sha256)
    return folder / engine.file


def _inside(folder: Path, name: str) -> Path:
    if Path(name).name != name:
        raise BundleError(f"{folder / MANIFEST}: {name!r} must be a file name inside the bundle")
    return folder / name


def _verify(file: Path, expected_sha256: str) -> None:
    try:
        actual = sha256_of(file)
    except OSError:
        raise BundleError(f"{file}: cannot be read") from None
    if actual != expected_sha256:
        raise BundleError(f"{file}: damaged, its SHA-256 is not the one in {MANIFEST}")
