"""Sessions on one interpreter, and the objects that stay there."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from runtime.interpreters.errors import InterpreterError
from runtime.interpreters.evaluation import Expression
from runtime.interpreters.host import Process
from runtime.interpreters.interpreter import Answer, Interpreter, Replica, Request
from runtime.interpreters.storages import Inbox, Outbox
from runtime.interpreters.values import Packer, Tree, Unpacker


class Session:
    """A way into one interpreter. It is closed by `with`, `close()`, or when nothing refers to it any more.

    Its objects hold it: `manager[0].global_("builtins", "print")("hello")` needs no variable for it.

    Attributes:
        interpreter: it is on.
    """

    def __init__(
        self,
        interpreter: Interpreter,
        release: Callable[[], None] = lambda: None,
        own: Expression | None = None,
        replica: Replica | None = None,
        holds: object = None,
    ) -> None:
        """Creates it.

        Args:
            interpreter: it is on.
            release: is called once, when it is closed.
            own: expression of `self`.
            replica: that `own` names.
            holds: what lives as long as the session.
        """
        self.interpreter = interpreter
        self._own = own
        self._replica = replica
        self._holds = holds
        self._release = weakref.finalize(self, release)

    @property
    def self(self) -> RemoteObject:
        """The importer of a package's session, the object of a replicated object's. Raises InterpreterError."""
        if self._own is None:
            raise InterpreterError("this session is of no package and of no replicated object")
        return self.take(self._own, replica=self._replica)

    def global_(self, module: str, name: str) -> RemoteObject:
        """What `from module import name` gives there. Raises InterpreterError."""
        return self.take(["global", module, name])

    def from_value(self, value: Any) -> RemoteObject:
        """Brings a value there. Raises InterpreterError for one that cannot cross."""
        outbox = Outbox()
        return self.take(["constant", Packer(outbox).pack(value)], outbox)

    def is_owner(self, value: RemoteObject) -> bool:
        """Whether an object was taken on this session, and the session is open."""
        return value._session is self and self.is_open

    @property
    def is_open(self) -> bool:
        """Whether it was not closed."""
        return bool(self._release.alive)

    def close(self) -> None:
        """Ends it. Its objects raise InterpreterError from now on, and are let go when nothing refers to them."""
        self._release()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def ask(
        self,
        expression: Expression,
        give: str,
        outbox: Outbox | None = None,
        process: Process | None = None,
        replica: Replica | None = None,
    ) -> Answer:
        """Evaluates there. Arguments as in Request. Raises InterpreterError."""
        if not self.is_open:
            raise InterpreterError("the session is closed")
        return self.interpreter.ask(Request(expression, give, outbox or Outbox(), process, replica))

    def move(self, value: RemoteObject) -> Answer:
        """Pickles an object of this session, its storages moved to shared memory. Raises InterpreterError."""
        if not self.is_owner(value):
            raise InterpreterError("Cannot create movable from an object that lives in different session")
        return self.ask(value._expression, "move", process=value._process)

    def take(
        self,
        expression: Expression,
        outbox: Outbox | None = None,
        process: Process | None = None,
        replica: Replica | None = None,
    ) -> RemoteObject:
        """The object that an expression gives there. Arguments as in Request. Raises InterpreterError."""
        answer = self.ask(expression, "object", outbox, process, replica)
        return RemoteObject(self, answer.process, answer.message["object"])


class RemoteObject:
    """An object that stays in its interpreter. Attributes, items and results of calls are such objects, too.

    It belongs to its session; after that is closed, or the process has ended, every use raises InterpreterError.
    Names with two underscores at both ends, `attr`, `hasattr` and `deref` are not looked up there; `attr` does so.
    """

    __slots__ = ("_number", "_process", "_session")
    __iter__ = None

    def __init__(self, session: Session, process: Process, number: int) -> None:
        self._session = session
        self._process = process
        self._number = number

    def __call__(self, /, *args: Any, **kwargs: Any) -> RemoteObject:
        """Calls it there with values, or with objects of its interpreter. Raises InterpreterError."""
        outbox = Outbox()
        packer = Packer(outbox, self._reference)
        return self._made(call(packer, self._expression, args, kwargs), outbox)

    def __getattr__(self, name: str) -> RemoteObject:
        if name.startswith("__") and name.endswith("__"):
            raise AttributeError(name)
        return self.attr(name)

    def attr(self, name: str) -> RemoteObject:
        """An attribute. Raises NoSuchAttribute."""
        return self._made(["attribute", self._expression, name])

    def hasattr(self, name: str) -> bool:
        """Whether it has an attribute."""
        return bool(self._value(["has", self._expression, name]))

    def __getitem__(self, key: Any) -> RemoteObject:
        outbox = Outbox()
        return self._made(["item", self._expression, Packer(outbox, self._reference).pack(key)], outbox)

    def deref(self) -> Any:
        """Brings its value here, tensors detached and their memory shared. Raises InterpreterError."""
        return self._value(self._expression)

    def __repr__(self) -> str:
        return f"<object {self._number} of interpreter {self._session.interpreter.number}>"

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            self._session.interpreter.drop(self._process, self._number)

    @property
    def _expression(self) -> Expression:
        return ["object", self._number]

    def _made(self, expression: Expression, outbox: Outbox | None = None) -> RemoteObject:
        return self._session.take(expression, outbox, self._process)

    def _value(self, expression: Expression) -> Any:
        return value_of(self._session.ask(expression, "value", process=self._process))

    def _reference(self, value: Any) -> Tree | None:
        if not isinstance(value, RemoteObject):
            return None
        if value._process is not self._process or not value._session.is_open:
            raise InterpreterError(
                "an object of another interpreter, or of a closed session, cannot be an argument"
            )
        return value._expression


def call(packer: Packer, target: Expression, args: Any, kwargs: Any) -> Expression:
    """The expression of a call. Raises InterpreterError for an argument that cannot cross."""
    packed = {name: packer.pack(each) for name, each in kwargs.items()}
    return ["call", target, [packer.pack(each) for each in args], packed]


def value_of(answer: Answer) -> Any:
    """The value of an answer. Raises InterpreterError."""
    inbox = Inbox(answer.message["extents"], answer.descriptors)
    try:
        return Unpacker(inbox).unpack(answer.message["value"])
    finally:
        inbox.close()
