"""Package files of torch.package."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from runtime.interpreters.evaluation import Expression
from runtime.interpreters.interpreter import Answer
from runtime.interpreters.library import Library
from runtime.interpreters.replicated import Pool, ReplicatedObject
from runtime.interpreters.session import Session, call, value_of
from runtime.interpreters.storages import Outbox
from runtime.interpreters.values import Packer


class Package:
    """An open file of torch.package. Each interpreter opens it when it first needs it.

    A package is a program: to load a pickle from it runs code that it brings, with the rights of this user. Its
    process keeps mistakes away from others, not malice. The file must not change while the package is in use.

    Attributes:
        number: in its manager.
    """

    def __init__(
        self, pool: Pool, library: Library, number: int, replicate: Callable[[Answer], ReplicatedObject]
    ) -> None:
        """Creates it.

        Args:
            pool: of the manager's interpreters.
            library: that has the file.
            number: in the library.
            replicate: makes an object of a pickle that an interpreter gave.
        """
        self.number = number
        self._pool = pool
        self._replicate = replicate
        self._expression = ["importer", number]
        weakref.finalize(self, library.drop_package, number).atexit = False

    def acquire_session(self) -> Session:
        """A session on a free interpreter, whose `self` is the package's importer. Raises InterpreterError."""
        session = self._session()
        session.self.hasattr("__class__")  # opens the file
        return session

    def load_pickle(self, module: str, file: str) -> ReplicatedObject:
        """Unpickles an object, which runs code, and pickles it for all interpreters. Raises InterpreterError."""
        with self._session() as session:
            return self._replicate(session.ask(self._call("load_pickle", module, file), "copy"))

    def load_text(self, module: str, file: str) -> str:
        """A text file in the package. Raises InterpreterError."""
        return str(self._value("load_text", module, file))

    def load_binary(self, module: str, file: str) -> bytes:
        """A file in the package. Raises InterpreterError."""
        return bytes(self._value("load_binary", module, file))

    def _session(self) -> Session:
        return self._pool.session(own=self._expression, holds=self)

    def _call(self, method: str, module: str, file: str) -> Expression:
        return call(Packer(Outbox()), ["attribute", self._expression, method], (module, file), {})

    def _value(self, method: str, module: str, file: str) -> Any:
        with self._session() as session:
            return value_of(session.ask(self._call(method, module, file), "value"))
