"""What has to be done to get from one set of models to another."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.model_set import AddedModel, ModelSet, Shadow

Key = tuple[str, str]


@dataclass(frozen=True)
class Scaling:
    """Another number of processes of an engine; 0: as the server is set."""

    name: str
    version: str
    before: int
    after: int


@dataclass(frozen=True)
class Transition:
    """The steps of a change. `load` and `scale` prepare it, the others commit it.

    Attributes:
        load: versions that are new.
        scale: versions whose number of processes differs.
        switch: name and version of each default that differs.
        shadow: by name what differs; None: the shadow ends.
        remove: versions that are gone.
    """

    load: tuple[AddedModel, ...] = ()
    scale: tuple[Scaling, ...] = ()
    switch: tuple[Key, ...] = ()
    shadow: tuple[tuple[str, Shadow | None], ...] = ()
    remove: tuple[Key, ...] = ()

    @classmethod
    def between(cls, old: ModelSet, new: ModelSet) -> Transition:
        """The steps from one set to another, both with the same models of the command line."""
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        return cls(
            load=tuple(each for each in new.added if each.key not in before),
            scale=tuple(
                Scaling(*key, old.processes_of(*key), new.processes_of(*key))
                for key in after
                if key in before and old.processes_of(*key) != new.processes_of(*key)
            ),
            switch=tuple(key for key in _defaults(new) if key not in _defaults(old)),
            shadow=tuple(
                (name, new.shadows.get(name))
                for name in dict.fromkeys((*old.shadows, *new.shadows))
                if old.shadows.get(name) != new.shadows.get(name)
            ),
            remove=tuple(key for key in before if key not in after),
        )


def _defaults(models: ModelSet) -> tuple[Key, ...]:
    return tuple(dict.fromkeys((name, models.default_of(name)) for name, _ in models))
