"""Objects that every interpreter can have, their tensors in the same memory."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from runtime.interpreters.balance import Balance
from runtime.interpreters.errors import InterpreterError
from runtime.interpreters.interpreter import Interpreter, Replica
from runtime.interpreters.session import RemoteObject, Session, call, value_of
from runtime.interpreters.storages import Outbox
from runtime.interpreters.values import Packer


class Pool:
    """The interpreters of a manager, and which one is next.

    Attributes:
        interpreters: in their order.
        balance: the users of each.
    """

    def __init__(self, interpreters: Sequence[Interpreter]) -> None:
        self.interpreters = interpreters
        self.balance = Balance(len(interpreters))

    def session(self, number: int | None = None, **more: Any) -> Session:
        """A session on one interpreter, or on a free one, which then counts as used. Raises IndexError."""
        if number is not None:
            return Session(self.interpreters[number], **more)
        free = self.balance.acquire()
        return Session(self.interpreters[free], lambda: self.balance.release(free), **more)


class ReplicatedObject:
    """An object that is unpickled in each interpreter when it is first used there; then that one is used.

    Its tensors on the CPU are the same memory in all of them. An attribute that is set in one stays there.
    A process that ended loses its copy; the next use unpickles another.
    """

    def __init__(self, pool: Pool, replica: Replica, holds: Iterable[object] = ()) -> None:
        """Creates it; `holds` are the packages whose code it needs."""
        self._pool = pool
        self._replica = replica
        self._holds = tuple(holds)
        self._expression = ["replica", replica.number]
        weakref.finalize(self, _unload, pool.interpreters, replica.number).atexit = False

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Calls it on a free interpreter and brings the value here. Raises InterpreterError."""
        return self.call_kwargs(args, kwargs)

    def call_kwargs(self, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Any:
        """As a call, with the arguments as a sequence and a mapping."""
        outbox = Outbox()
        return self._value(call(Packer(outbox), self._expression, args, kwargs or {}), outbox)

    def hasattr(self, name: str) -> bool:
        """Whether it has an attribute."""
        return bool(self._value(["has", self._expression, name]))

    def acquire_session(self, interpreter: int | None = None) -> Session:
        """A session whose `self` is the object: on a free interpreter, or on that one. Raises InterpreterError."""
        session = self._session(interpreter)
        session.self.hasattr("__class__")
        return session

    def to_obj(self, session: Session) -> RemoteObject:
        """The object on the interpreter of a session. Raises InterpreterError."""
        if session.interpreter not in self._pool.interpreters:
            raise InterpreterError("the session is of another manager")
        return session.take(self._expression, replica=self._replica)

    def unload(self, interpreter: int | None = None) -> None:
        """Lets it go on one interpreter or on all, at once or after what that does. The next use loads it."""
        chosen = self._pool.interpreters if interpreter is None else [self._pool.interpreters[interpreter]]
        _unload(chosen, self._replica.number)

    def _session(self, interpreter: int | None = None) -> Session:
        return self._pool.session(interpreter, own=self._expression, replica=self._replica, holds=self)

    def _value(self, expression: list[Any], outbox: Outbox | None = None) -> Any:
        with self._session() as session:
            return value_of(session.ask(expression, "value", outbox, replica=self._replica))


def _unload(interpreters: Sequence[Interpreter], number: int) -> None:
    for each in interpreters:
        each.unload(number)
