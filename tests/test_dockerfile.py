"""What the Dockerfile takes for granted about the project. Nothing is built here."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from server.app import make_apps
from server.config import Config, ModelConfig
from server.model_options import find_bundles
from server.options import SECTIONS
from snapserve.options import options_of

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_everything_that_is_copied_exists_and_reaches_the_builder():
    sources = {word for line in re.findall(r"^COPY ([^-$].*)", DOCKERFILE, re.M) for word in line.split()[:-1]}
    assert {source for source in sources if not (ROOT / source).exists()} == set()
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == sources


def test_every_package_of_the_distribution_is_copied():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    packages = {each.rstrip("*") for each in project["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert packages == {
        folder for folder in re.findall(r"^COPY (?:--\S+ )?/?(\w+) \1$", DOCKERFILE, re.M) if folder != "images"
    }


def test_the_health_check_asks_a_route_that_exists():
    (path,) = re.findall(r"'GET', '(.*?)'", DOCKERFILE)
    assert path in {
        resource.canonical for resource in make_apps(Config(), find_bundles(ModelConfig())).main.router.resources()
    }


def test_the_environment_sets_options_that_exist_and_the_port_that_is_exposed():
    options = {each.variable for section in SECTIONS.values() for each in options_of(section)}
    assert set(re.findall(r"SNAPSERVE_\w+", DOCKERFILE)) <= options
    assert set(re.findall(r"(?:EXPOSE |SNAPSERVE_PORT=)(\d+)", DOCKERFILE)) == {str(Config().server.port)}
