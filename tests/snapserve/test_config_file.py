"""Configuration files: keys at the top level or in tables, typed values, and one line for whatever is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest

from snapserve.config_file import read_config_file
from snapserve.options import Options, option


class Refused(Exception):
    pass


@dataclass(frozen=True)
class Oven(Options):
    """Oven."""

    error = Refused

    name: str = option("", "name of the oven")
    max_shelves: int = option(2, "number of shelves", 1, 9)
    heat: float = option(180.0, "heat in degrees", 50, 300)
    timer: int = option(0, "minutes", 0, 90, auto=True)
    light: bool = option(True, "lamp")
    from_: Path | None = option(None, "file with settings")


@dataclass(frozen=True)
class Baking(Options):
    """Baking."""

    error = Refused

    mode: str = option("top", "heater", choices=("top", "bottom"))
    recipe: tuple[str, ...] = option((), "recipes", valid=str.islower, form="lower case")


GROUPS = {"oven": Oven, "baking": Baking}


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a text as the file oven.toml of the working directory."""
    monkeypatch.chdir(tmp_path)

    def read(text):
        Path("oven.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_config_file(Path("oven.toml"), GROUPS, Refused)

    return read


@pytest.mark.parametrize(
    "text",
    [
        'max_shelves = 3\nmode = "bottom"\n',
        'max-shelves = 3\nmode = "bottom"\n',
        '[oven]\nmax-shelves = 3\n[baking]\nmode = "bottom"\n',
        'oven.max_shelves = 3\n[baking]\nmode = "bottom"\n',
        'mode = "bottom"\n[oven]\nmax_shelves = 3\n[baking]\n',
    ],
)
def test_keys_are_flat_or_in_tables_with_underscores_or_dashes(read, text):
    assert read(text) == {"max_shelves": 3, "mode": "bottom"}


def test_values_are_converted(read):
    text = 'heat = 60\ntimer = "auto"\nlight = false\nfrom = "a/b"\nrecipe = ["cake", "pie"]\nname = "näme"'
    assert read(text) == {
        "heat": 60.0,
        "timer": 0,
        "light": False,
        "from_": Path("a/b"),
        "recipe": ("cake", "pie"),
        "name": "näme",
    }


def test_an_empty_file_says_nothing(read):
    assert read("") == read("# nothing\n[oven]\n") == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("max_shelves = 0", "max_shelves 0: must be between 1 and 9"),
        ("[oven]\nmax-shelves = 10", "oven.max-shelves 10: must be between 1 and 9"),
        ('max_shelves = "3"', 'max_shelves "3": must be a whole number between 1 and 9'),
        ("max_shelves = true", "max_shelves true: must be a whole number between 1 and 9"),
        ("max_shelves = 3.0", "max_shelves 3.0: must be a whole number between 1 and 9"),
        ("max_shelves = 1979-05-27", 'max_shelves "1979-05-27": must be a whole number between 1 and 9'),
        ("[max_shelves]\nx = 1", 'max_shelves {"x": 1}: must be a whole number between 1 and 9'),
        ("heat = false", "heat false: must be a number between 50 and 300"),
        (f"heat = 1{'0' * 400}", f"heat 1{'0' * 400}: must be a number between 50 and 300"),
        ("heat = nan", "heat nan: must be between 50 and 300"),
        ("timer = 1.5", "timer 1.5: must be auto or a whole number up to 90"),
        ('timer = "never"', 'timer "never": must be auto or a whole number up to 90'),
        ("light = 1", "light 1: must be true or false"),
        ("name = 5", "name 5: must be a string"),
        ("from = 5", "from 5: must be a string"),
        ('mode = "left"', "mode left: must be top or bottom"),
        ("mode = 1", "mode 1: must be top or bottom"),
        ('recipe = "cake"', 'recipe "cake": must be a list of strings, each lower case'),
        ('recipe = ["cake", 1]', 'recipe ["cake", 1]: must be a list of strings, each lower case'),
        ('recipe = ["cake", "PIE"]', "recipe PIE: must be lower case"),
        ('mode = """left\nright"""', r"mode 'left\nright': must be top or bottom"),
        ("max_shelfs = 1", "max_shelfs: unknown key, did you mean max_shelves?"),
        ("[oven]\nmax_shelfs = 1", "oven.max_shelfs: unknown key, did you mean oven.max_shelves?"),
        ("[baking]\nmax_shelves = 1", "baking.max_shelves: unknown key, did you mean oven.max_shelves?"),
        ("[ovens]\nmax_shelves = 1", "ovens: unknown key, did you mean [oven]?"),
        ("oven = 1", "oven: unknown key, the keys are the options that --help lists"),
        ("qqq = 1", "qqq: unknown key, the keys are the options that --help lists"),
        ("max_shelves = 1\nmax-shelves = 2", "max-shelves: max_shelves is there twice"),
        ("max_shelves = 1\n[oven]\nmax_shelves = 1", "oven.max_shelves: max_shelves is there twice"),
        ("name = 'x'\nmode =\n", "not valid TOML: Invalid value (at line 2, column 7)"),
        ("name = 'x'\nname = 'y'\n", "not valid TOML: Cannot overwrite a value (at line 2, column 11)"),
        (
            b"name = '\xff'",
            "not valid TOML: 'utf-8' codec can't decode byte 0xff in position 8: invalid start byte",
        ),
    ],
)
def test_whatever_is_wrong_is_one_line(read, text, said):
    with pytest.raises(Refused) as caught:
        read(text)
    assert str(caught.value) == f"oven.toml: {said}"


def test_a_file_that_cannot_be_read_is_one_line(tmp_path):
    for name, reason in (("nowhere", "no such file or directory"), ("", "is a directory")):
        with pytest.raises(Refused) as caught:
            read_config_file(tmp_path / name, GROUPS, Refused)
        assert str(caught.value) == f"{tmp_path / name}: {reason}"


def test_a_file_without_permission_is_one_line(monkeypatch):
    monkeypatch.setattr(Path, "read_text", mock.Mock(side_effect=PermissionError(13, "Permission denied")))
    with pytest.raises(Refused, match=r"^oven\.toml: permission denied$"):
        read_config_file(Path("oven.toml"), GROUPS, Refused)
