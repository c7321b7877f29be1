"""A server that takes part: how it is started, and what it is."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.peers.environment import Environment
from benchmark.server_process import ROOT

PORT = "{port}"  # in a command, where the port goes

_OWN = ("SNAPSERVE_", "PEER_", "OMP_", "KMP_", "MKL_", "BENTOML_")


@dataclass(frozen=True)
class Contestant:
    """A server's command line.

    Attributes:
        name: in the table.
        module: words after the interpreter, with `PORT` in the port's place.
        variables: further environment variables.
        environment: name of the peer's virtual environment; None for the project's own.
        checkout: folder of the project, or of another version of it, that the server is started in.
    """

    name: str
    module: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    environment: str | None = None
    checkout: Path = ROOT

    @property
    def python(self) -> Path:
        """The interpreter that runs it."""
        if self.environment:
            return Environment(self.environment).python
        own = self.checkout / ".venv" / "bin" / "python"
        return own if self.checkout != ROOT and own.exists() else Path(sys.executable)

    def words(self, port: int) -> list[str]:
        """The command line."""
        return [str(self.python), *(word.replace(PORT, str(port)) for word in self.module)]

    def surroundings(self) -> dict[str, str]:
        """All environment variables; of those that change a server only the contestant's own."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_OWN)}
        return {**inherited, "PYTHONUNBUFFERED": "1", **self.variables}

    def shown(self) -> str:
        """The command as it may be typed in the project's folder."""
        here = self.checkout
        variables = [f"{name}={shlex.quote(relative(value, here))}" for name, value in self.variables.items()]
        python = relative(str(self.python), here)
        python = "python" if Path(python).is_absolute() else python
        there = [] if here == ROOT else ["cd", shlex.quote(os.path.relpath(here, ROOT)), "&&"]
        return " ".join([*there, *variables, python, *(_quoted(relative(word, here)) for word in self.module)])

    def variant(self, name: str, change: str) -> Contestant:
        """The same with further words: `NAME=VALUE` in capitals is a variable, all others are options.

        `CHECKOUT=FOLDER` starts it in another checkout of the project, with the environment that is there, if any.

        Raises:
            ValueError: there is no such checkout.
        """
        words = shlex.split(change)
        variables = dict(word.split("=", 1) for word in words if _VARIABLE.match(word))
        options = [word for word in words if not _VARIABLE.match(word)]
        checkout = Path(variables.pop("CHECKOUT", self.checkout)).resolve()
        if not (checkout / "server").is_dir():
            raise ValueError(f"CHECKOUT={checkout}: holds no checkout of the project")
        return dataclasses.replace(
            self,
            name=name,
            module=(*self.module, *options),
            variables={**self.variables, **variables},
            checkout=checkout,
        )


def _quoted(word: str) -> str:
    return word if PORT in word else shlex.quote(word)


_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*=")


def relative(text: str, folder: Path = ROOT) -> str:
    """A file of the project, or of `folder`, as it is seen from `folder`; any other text as it is."""
    ours = text.startswith((f"{ROOT}{os.sep}", f"{folder}{os.sep}"))
    return os.path.relpath(text, folder) if ours else text
