"""Classes of options of every kind: what they become, what they refuse, and which source wins."""

from __future__ import annotations

import dataclasses
import pickle
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from snapserve.options import OptionParser, Options, build, option, options_of


class Refused(Exception):
    pass


@dataclass(frozen=True)
class Oven(Options):
    """Oven.

    This line is not a title.
    """

    error = Refused

    name: str = option("", "name of the oven")
    shelves: int = option(2, "number of shelves", 1)
    heat: float = option(180.0, "heat in degrees, 100 % even", 50, 300.5)
    timer: int = option(0, "minutes", 0, 90, auto=True)
    mode: str = option("top", "heater", choices=("top", "bottom"))
    light: bool = option(True, "lamp")
    recipe: tuple[str, ...] = option((), "recipes", valid=str.islower, form="lower case")
    part: tuple[str, ...] = option((), "parts", choices=("rack", "tray"))
    from_: Path | None = option(None, "file with settings")


def parsed(*words, environment=None, values=None):
    parser = OptionParser(Refused, prog="oven", description="bakes")
    parser.add_options(Oven)
    return build(Oven, vars(parser.parse_args(words)), environment or {}, values or {})


def test_nothing_given_is_the_defaults():
    assert parsed() == Oven()


def test_values_have_the_types_of_the_defaults():
    words = ("--name", "x", "--shelves=3", "--heat", "60", "--timer", "auto", "--no-light", "--from", "a/b")
    assert parsed(*words, "--recipe", "cake", "--recipe", "pie", "--part", "tray") == Oven(
        name="x",
        shelves=3,
        heat=60.0,
        timer=0,
        light=False,
        recipe=("cake", "pie"),
        part=("tray",),
        from_=Path("a/b"),
    )


def test_a_flag_wins_over_a_variable_which_wins_over_a_value():
    given = {"environment": {"SNAPSERVE_SHELVES": "4", "SNAPSERVE_HEAT": "70"}, "values": {"heat": 1, "name": "n"}}
    assert parsed("--shelves", "5", **given) == Oven(shelves=5, heat=70.0, name="n")


def test_variables_of_lists_and_switches():
    environment = {"SNAPSERVE_RECIPE": "cake,,pie", "SNAPSERVE_LIGHT": "No", "SNAPSERVE_FROM": "a"}
    assert parsed(environment=environment) == Oven(recipe=("cake", "pie"), light=False, from_=Path("a"))


def test_a_wrong_variable_does_not_matter_where_there_is_a_flag():
    assert parsed("--shelves", "5", environment={"SNAPSERVE_SHELVES": "tcp://10.0.0.1:80"}).shelves == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--shelves", "0"], "--shelves 0: must be at least 1"),
        (["--shelves", "x"], "--shelves x: must be a whole number at least 1"),
        (["--heat", "inf"], "--heat inf: must be between 50 and 300.5"),
        (["--heat", "hot"], "--heat hot: must be a number between 50 and 300.5"),
        (["--timer", "x"], "--timer x: must be auto or a whole number up to 90"),
        (["--mode", "left"], "--mode left: must be top or bottom"),
        (["--recipe", "cake", "--recipe", "PIE"], "--recipe PIE: must be lower case"),
        (["--part", "rack", "--part", "door"], "--part door: must be rack or tray"),
        (["--shelfs", "1"], "--shelfs: unknown option, did you mean --shelves?"),
        (["--shelve", "1"], "--shelve: unknown option, did you mean --shelves?"),
        (["cake"], "cake: not expected, options begin with --"),
        (["--name"], "argument --name: expected one argument"),
    ],
)
def test_a_wrong_flag_is_one_line(words, said):
    with pytest.raises(Refused) as caught:
        parsed(*words)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("LIGHT", "perhaps", "SNAPSERVE_LIGHT perhaps: must be true or false"),
        ("SHELVES", "0", "SNAPSERVE_SHELVES 0: must be at least 1"),
        ("RECIPE", "cake,PIE", "SNAPSERVE_RECIPE PIE: must be lower case"),
    ],
)
def test_a_wrong_variable_is_named(name, text, said):
    with pytest.raises(Refused) as caught:
        parsed(environment={f"SNAPSERVE_{name}": text})
    assert str(caught.value) == said


def test_objects_are_checked_at_construction_and_by_replace():
    for wrong in ({"shelves": 0}, {"recipe": ("PIE",)}, {"mode": "left"}, {"heat": float("nan")}):
        with pytest.raises(Refused, match="--"):
            Oven(**wrong)
        with pytest.raises(Refused, match="--"):
            dataclasses.replace(Oven(), **wrong)


def test_objects_can_be_pickled():
    oven = Oven(name="x", recipe=("cake",))
    assert pickle.loads(pickle.dumps(oven)) == oven


def test_the_help_has_groups_ranges_and_defaults(capsys):
    with pytest.raises(SystemExit) as end:
        parsed("--help")
    assert end.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "Oven: --name NAME name of the oven --shelves" in text
    assert "heat in degrees, 100 % even (between 50 and 300.5; default 180.0)" in text
    assert "minutes (auto or a whole number up to 90; default auto)" in text
    assert "--light, --no-light lamp" in text and "--from PATH file with settings" in text


def test_what_is_typed_can_be_shown():
    shown = {each.key: each.text(each.default) for each in options_of(Oven)}
    assert (shown["timer"], shown["from"], shown["recipe"], shown["light"]) == ("auto", "", "", "True")
    assert [each.text(("a", "b")) for each in options_of(Oven) if each.name == "recipe"] == ["a b"]


def test_nothing_else_of_the_project_is_imported():
    code = (
        "import sys, snapserve.options; folders = {each.partition('.')[0] for each in sys.modules};"
        "sys.exit(bool(folders & {'torch', 'server', 'models', 'runtime', 'batching'}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
