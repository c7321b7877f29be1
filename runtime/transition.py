"""What has to be done to get from one set of models to another."""

from __future__ import annotations

from dataclasses import dataclass

from runtime.added_model import AddedModel
from runtime.model_set import ModelSet, Shadow

Key = tuple[str, str]


@dataclass(frozen=True)
class Scaling:
    """Another number of processes of an engine, per worker; 0: as the server is set.

    Of an archive it is the number of all workers together.
    """

    name: str
    version: str
    before: int
    after: int
    is_of_archive: bool = False


@dataclass(frozen=True)
class Transition:
    """The steps of a change. `load`, `wake` and `scale` prepare it, the others commit it.

    Attributes:
        load: versions that are new.
        wake: archives that had no workers, and get some.
        scale: versions whose number of processes differs.
        rest: archives that have no workers any more.
        expect: archives without workers for which requests begin to wait, or cease to.
        switch: name and version of each default that differs.
        shadow: by name what differs; None: the shadow ends.
        remove: versions that are gone, the default ones last.
    """

    load: tuple[AddedModel, ...] = ()
    wake: tuple[AddedModel, ...] = ()
    scale: tuple[Scaling, ...] = ()
    rest: tuple[AddedModel, ...] = ()
    expect: tuple[AddedModel, ...] = ()
    switch: tuple[Key, ...] = ()
    shadow: tuple[tuple[str, Shadow | None], ...] = ()
    remove: tuple[Key, ...] = ()

    @classmethod
    def between(cls, old: ModelSet, new: ModelSet) -> Transition:
        """The steps from one set to another, both with the same models of the command line."""
        before, after = dict.fromkeys(old), dict.fromkeys(new)
        known = [each for each in new.added if each.key in before]
        wake = tuple(each for each in known if _is_idle(old, each.key) and not each.is_idle)
        rest = tuple(each for each in known if each.is_idle and not _is_idle(old, each.key))
        defaults = set(_defaults(old))
        idle = tuple(each for each in new.added if each.is_idle)
        others = before.keys() - {each.key for each in (*wake, *idle)}
        return cls(
            load=tuple(each for each in new.added if each.key not in before),
            wake=wake,
            scale=tuple(
                Scaling(*key, old.processes_of(*key), new.processes_of(*key), _is_archive(new, key))
                for key in after
                if key in others and old.processes_of(*key) != new.processes_of(*key)
            ),
            rest=rest,
            expect=tuple(each for each in idle if each.is_starting != _is_starting(old, each.key)),
            switch=tuple(key for key in _defaults(new) if key not in defaults),
            shadow=tuple(
                (name, new.shadows.get(name))
                for name in dict.fromkeys((*old.shadows, *new.shadows))
                if old.shadows.get(name) != new.shadows.get(name)
            ),
            remove=tuple(sorted((key for key in before if key not in after), key=lambda key: key in defaults)),
        )


def _is_archive(models: ModelSet, key: Key) -> bool:
    model = models.find(*key)
    return model is not None and model.archive is not None


def _is_idle(models: ModelSet, key: Key) -> bool:
    model = models.find(*key)
    return model is not None and model.is_idle


def _is_starting(models: ModelSet, key: Key) -> bool:
    model = models.find(*key) if key[1] in models.versions(key[0]) else None
    return model is not None and model.is_starting


def _defaults(models: ModelSet) -> tuple[Key, ...]:
    return tuple(dict.fromkeys((name, models.default_of(name)) for name, _ in models))
