"""Options as dataclass fields: flags, environment variables, defaults, ranges and help, for every command."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar

_BOOLEANS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def option(
    default: Any,
    help: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    auto: bool = False,
    valid: Callable[[str], bool] | None = None,
    form: str = "",
) -> Any:
    """A field of an `Options` class: a flag, an environment variable and a line of help.

    Args:
        default: also gives the type; a tuple: a flag that may be repeated; None: a path that may be left out.
        help: for people, one line.
        low: least value allowed.
        high: greatest value allowed.
        choices: the values allowed.
        auto: 0 is also written "auto".
        valid: whether a text is allowed, for what choices and ranges cannot say.
        form: what `valid` allows, in words.
    """
    rule = {"low": low, "high": high, "choices": choices, "auto": auto, "valid": valid, "form": form}
    return dataclasses.field(default=default, metadata={"help": help, **rule})


class Options:
    """Base of the frozen dataclasses whose fields are options; each value is checked at construction.

    The first line of a class's docstring is the title of its group in the help.

    Attributes:
        error: raised for a wrong value, with one line: where it was given, the value and what is allowed.
    """

    error: ClassVar[type[Exception]] = ValueError

    def __post_init__(self) -> None:
        for each in options_of(type(self)):
            each.check(getattr(self, each.name), each.flag)


@dataclass(frozen=True)
class Option:
    """One field of an `Options` class. Attributes as the arguments of `option`.

    Attributes:
        name: of the field.
        error: of the field's class.
    """

    name: str
    error: type[Exception]
    default: Any
    help: str
    low: float | None
    high: float | None
    choices: tuple[str, ...]
    auto: bool
    valid: Callable[[str], bool] | None
    form: str

    @property
    def key(self) -> str:
        """The name without the underscore that sets it apart from a word of Python: `from_` is "from"."""
        return self.name.rstrip("_")

    @property
    def flag(self) -> str:
        """The command-line spelling: `--batch-timeout-ms`."""
        return "--" + self.key.replace("_", "-")

    @property
    def variable(self) -> str:
        """The environment variable: `SNAPSERVE_BATCH_TIMEOUT_MS`."""
        return f"SNAPSERVE_{self.key.upper()}"

    @property
    def kind(self) -> type:
        """The type of the value; of a repeatable option tuple, with str inside."""
        return Path if self.default is None else type(self.default)

    @property
    def allowed(self) -> str:
        """The range in words: "between 0 and 65535", "at least 1", "auto, cpu or cuda"; "" without limits."""
        if self.choices:
            *most, last = self.choices
            return f"{', '.join(most)} or {last}" if most else last
        if self.auto:
            return f"auto or a whole number up to {self.high}"
        if self.low is not None and self.high is not None:
            return f"between {self.low} and {self.high}"
        return f"at least {self.low}" if self.low is not None else self.form

    @property
    def expected(self) -> str:
        """The type and the range in words: "a whole number between 0 and 65535"."""
        if self.kind is tuple:
            return ", each ".join(filter(None, ["a list of strings", self.allowed]))
        if self.kind is bool:
            return "true or false"
        if self.kind in (int, float) and not self.auto:
            return f"{'a whole number' if self.kind is int else 'a number'} {self.allowed}".rstrip()
        return self.allowed or "a string"

    def text(self, value: Any) -> str:
        """The value as it would be typed."""
        if self.auto and value == 0:
            return "auto"
        if value is None:
            return ""
        return " ".join(value) if isinstance(value, tuple) else str(value)

    def read(self, given: Any, where: str) -> Any:
        """Converts and checks what was given: a text, or texts if the option is repeatable.

        Raises:
            Exception: `error`; begins with `where`.
        """
        try:
            value = self._converted(given)
        except (KeyError, OverflowError, ValueError):
            raise self._wrong(where, str(given), self.expected) from None
        self.check(value, where)
        return value

    def check(self, value: Any, where: str) -> None:
        """Raises `error`, which begins with `where`, unless the value is allowed."""
        for each in value if self.kind is tuple else (value,):
            if not self._allows(each):
                raise self._wrong(where, self.text(each), self.allowed)

    def _wrong(self, where: str, text: str, expected: str) -> Exception:
        return self.error(f"{where} {text if text.isprintable() else repr(text)}: must be {expected}")

    def _converted(self, given: Any) -> Any:
        if self.kind is tuple:
            return tuple(word for word in given if word)
        if self.kind is bool:
            return _BOOLEANS[str(given).lower()]
        return 0 if self.auto and given == "auto" else self.kind(given)

    def _allows(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if self.valid:
            return self.valid(value)
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)


def options_of(kind: type[Options]) -> list[Option]:
    """The options of a class, in the order of its fields."""
    fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(kind)  # type: ignore[arg-type]
    return [Option(each.name, kind.error, each.default, **each.metadata) for each in fields]


_Kind = TypeVar("_Kind", bound=Options)


def build(
    kind: type[_Kind], flags: Mapping[str, Any], environment: Mapping[str, str], values: Mapping[str, Any]
) -> _Kind:
    """An object of a class of options: a flag overrides the environment, which overrides `values`.

    Args:
        kind: the class.
        flags: what `OptionParser` has found, by the fields' names.
        environment: environment variables; of a repeatable option with commas between its values.
        values: further values, converted and checked; the defaults replace what is missing.

    Raises:
        Exception: `kind.error`.
    """
    found = {}
    for each in options_of(kind):
        if each.name in flags:
            found[each.name] = each.read(flags[each.name], each.flag)
        elif each.variable in environment:
            text = environment[each.variable]
            found[each.name] = each.read(text.split(",") if each.kind is tuple else text, each.variable)
        elif each.name in values:
            found[each.name] = values[each.name]
    return kind(**found)


class OptionParser(argparse.ArgumentParser):
    """Parses flags; those that are not given are left out of the result.

    A wrong flag raises an error of one line instead of printing a usage of forty.

    Args:
        error: what is raised.
        prog: name of the command.
        description: for the help, as `epilog`.
        epilog: below the options.
    """

    def __init__(self, error: type[Exception], prog: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            argument_default=argparse.SUPPRESS,
            allow_abbrev=False,
        )
        self._error = error

    def add_options(self, kind: type[Options]) -> None:
        """Adds a flag for each option of a class, as a group of the help."""
        group = self.add_argument_group((kind.__doc__ or "").partition("\n")[0].rstrip("."))
        for each in options_of(kind):
            _add(group, each)

    def error(self, message: str) -> NoReturn:
        """Raises the parser's error."""
        raise self._error(message)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As in argparse, with the nearest flag as a hint."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(self._unknown(unknown[0]))
        return known

    def _unknown(self, word: str) -> str:
        if not word.startswith("-"):
            return f"{word}: not expected, options begin with --"
        flags = ["--help", *re.findall(r"--[\w-]+", self.format_usage())]
        near = get_close_matches(word.split("=")[0], flags, 1)
        hint = f"did you mean {near[0]}?" if near else "--help lists what is allowed"
        return f"{word}: unknown option, {hint}"


def _add(group: Any, each: Option) -> None:
    text = each.help.replace("%", "%%")
    if each.kind is bool:
        group.add_argument(each.flag, dest=each.name, action=argparse.BooleanOptionalAction, help=text)
        return
    shown = each.text(each.default)
    notes = "; ".join(filter(None, [each.allowed, f"default {shown}" if shown else ""]))
    group.add_argument(
        each.flag,
        dest=each.name,
        action="append" if each.kind is tuple else "store",
        metavar="PATH" if each.kind is Path else each.name.rpartition("_")[2].upper(),
        help=f"{text} ({notes})" if notes else text,
    )
