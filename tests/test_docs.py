"""The documents say what is there: every flag, route, problem and metric, no dead links, one version."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

import pytest

import server.http.connection
import server.http.faults
from server.app import make_apps
from server.config import Config, ModelConfig
from server.model_options import find_bundles
from server.operations.metrics import Metrics
from server.options import SECTIONS, parse_config
from snapserve import __version__
from snapserve.options import options_of

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "images/README.md", *(ROOT / "docs").glob("*.md")]
API = (ROOT / "docs/api.md").read_text()


def test_every_option_is_documented_with_its_default_and_range():
    text = (ROOT / "docs/options.md").read_text()
    for section in SECTIONS.values():
        for each in options_of(section):
            cells = [f"`{each.flag}`", each.text(each.default), each.allowed, each.help]
            assert "".join(f"| {cell} " for cell in cells) + "|" in text, "docs/options.md lacks this row"


def test_the_configuration_file_of_the_documents_is_valid(tmp_path):
    (example,) = re.findall(r"```toml\n(.*?)```", (ROOT / "docs/options.md").read_text(), re.DOTALL)
    (tmp_path / "example.toml").write_text(example)
    config, _ = parse_config(["--config", str(tmp_path / "example.toml")], {})
    assert config.models.model[0] == "cats=models/cats.pt"


async def test_every_route_is_documented():
    app = make_apps(Config(), find_bundles(ModelConfig())).main
    for resource in app.router.resources():
        assert (resource.canonical.rstrip("/") or "/") in API


def test_every_problem_is_documented_with_its_status():
    source = inspect.getsource(server.http.faults) + inspect.getsource(server.http.connection)
    problems = re.findall(r'Fault\(\s*(\d{3}),\s*"([\w-]+)"', source)
    problems += [("503", kind) for kind in re.findall(r'_unavailable\(\s*"([\w-]+)"', source)]
    assert len(problems) > 12
    for status, kind in problems:
        assert re.search(rf"^\| {status} \| .*`{kind}`", API, re.MULTILINE), (status, kind)


def test_every_metric_is_documented():
    for family in Metrics().registry.collect():
        assert f"`{family.name}" in API


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda file: file.name)
def test_the_images_that_are_named_exist(document):
    for target in re.findall(r"@(images/[\w./-]+)", document.read_text()):
        assert (ROOT / target).exists(), target


def test_the_changelog_begins_with_this_version():
    assert re.search(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[1] == __version__


def undocumented(source):
    """Public functions, classes and methods of a module without a docstring."""

    def below(node, prefix=""):
        for each in node.body:
            kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
            if isinstance(each, kinds) and not each.name.startswith("_"):
                if not ast.get_docstring(each):
                    yield prefix + each.name
                if isinstance(each, ast.ClassDef):
                    yield from below(each, f"{each.name}.")

    return list(below(ast.parse(source)))


@pytest.mark.parametrize(
    "folder", ["snapserve", "server", "runtime", "batching", "models", "examples", "benchmark"]
)
def test_every_public_name_has_a_docstring(folder):
    files = [file for file in sorted((ROOT / folder).rglob("*.py")) if file.parent.name != "generated"]
    lacking = {str(file): names for file in files if (names := undocumented(file.read_text()))}
    assert files and not lacking
    assert undocumented("class A:\n    def b(self): pass\n    def _c(self): pass") == ["A", "A.b"]
