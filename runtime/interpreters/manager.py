"""Several Python interpreters behind one object, each with its own lock, modules and torch."""

from __future__ import annotations

import itertools
import os
import weakref
from collections.abc import Sequence
from pathlib import Path
from weakref import WeakValueDictionary

from runtime.interpreters.host import Host
from runtime.interpreters.interpreter import Answer, Interpreter, Replica
from runtime.interpreters.library import ARGUMENT_NAMES, Library
from runtime.interpreters.package import Package
from runtime.interpreters.replicated import Pool, ReplicatedObject
from runtime.interpreters.session import RemoteObject, Session
from runtime.interpreters.storages import Parcel
from runtime.processes.recipe import Recipe

_PROGRAM = "runtime.interpreters.program"


class InterpreterManager:
    """n interpreters, each a process, forked from one that has imported torch: what torch::deploy does.

    Usable from any thread; as many calling threads as interpreters keep all of them busy. `close()`, `with`,
    garbage collection and the end of this process end all of its processes.

    Code that is loaded runs as this user: a package is a program. What it breaks is its interpreter and its call.

    Attributes:
        interpreters: in their order.
    """

    def __init__(
        self,
        n: int = 2,
        *,
        threads: int | None = None,
        paths: Sequence[str | os.PathLike[str]] = (),
        preload: Sequence[str] = (),
    ) -> None:
        """Starts them, one after another.

        Args:
            n: number of interpreters, 1 or more.
            threads: of torch for one operation, in each; by default the cores are divided among them.
            paths: appended to `sys.path` of each.
            preload: modules that are imported once, before the others are forked.

        Raises:
            ValueError: n is less than 1.
            InterpreterError: an interpreter does not start.
        """
        if n < 1:
            raise ValueError(f"{n} interpreters are too few")
        self._library = Library()
        self._library.add_source("argument_names", ARGUMENT_NAMES)
        self._packages: WeakValueDictionary[int, Package] = WeakValueDictionary()
        self._numbers = itertools.count(1)
        host = Host((_PROGRAM, *preload))
        self._close = weakref.finalize(self, host.close)
        own = max(1, (os.cpu_count() or 1) // n) if threads is None else threads
        settings = {"threads": own, "paths": [os.fspath(each) for each in paths]}
        try:
            self._pool = Pool([_interpreter(number, host, settings, self._library) for number in range(n)])
        except BaseException:
            self.close()
            raise
        self.interpreters = self._pool.interpreters

    def __len__(self) -> int:
        return len(self.interpreters)

    def __getitem__(self, number: int) -> Session:
        """A session on one interpreter, which does not count as its user. Raises IndexError."""
        return self._pool.session(number)

    def acquire_one(self) -> Session:
        """A session on a free interpreter, which counts as used until the session is closed. Never waits.

        It is the first one without users, from where this thread last was; else one with the fewest, whose users
        then wait for each other.
        """
        return self._pool.session()

    def debug_limit(self, count: int) -> None:
        """Lets only the first interpreters be acquired. Raises ValueError for more than there are, or none."""
        self._pool.balance.limit(count)

    def register_module_source(self, name: str, text: str) -> None:
        """Makes a module importable in every interpreter from now on; an imported one stays as it is."""
        self._library.add_source(name, text)

    @property
    def registered_module_sources(self) -> dict[str, str]:
        """Text by module name. One is there from the start: `argument_names`, with a function of that name."""
        return self._library.sources

    def load_package(self, path: str | os.PathLike[str]) -> Package:
        """Opens a file of torch.package; nothing is unpickled yet. Raises InterpreterError for no package."""
        number = self._library.add_package(Path(path))
        package = Package(self._pool, self._library, number, self._replicated)
        self._packages[number] = package
        package.acquire_session().close()
        return package

    def create_movable(self, obj: RemoteObject, session: Session) -> ReplicatedObject:
        """Pickles an object of a session, for all interpreters; storages of its tensors move to shared memory.

        Raises:
            InterpreterError: it is another session's, or cannot be pickled.
        """
        return self._replicated(session.move(obj))

    def close(self) -> None:
        """Ends all processes, also in the middle of a call, which then raises InterpreterError."""
        self._close()

    def __enter__(self) -> InterpreterManager:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _replicated(self, answer: Answer) -> ReplicatedObject:
        message = answer.message
        parcel = Parcel(message["extents"], answer.descriptors, message["pickle"])
        packages = [self._packages[number] for number in message["packages"] if number in self._packages]
        return ReplicatedObject(self._pool, Replica(next(self._numbers), parcel), packages)


def _interpreter(number: int, host: Host, settings: dict[str, object], library: Library) -> Interpreter:
    target = f"{_PROGRAM}:Program"
    recipe = Recipe(f"interpreter {number}", target, {"number": number, **settings}, (_PROGRAM,))
    return Interpreter(number, lambda: host.start(recipe), library)
