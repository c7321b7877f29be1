"""Imports run one way: docs/architecture.md, "Direction of imports"; and importing the core changes nothing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# What a folder may import of the project, besides itself.
FOLDERS = {
    "snapserve": set(),
    "batching": {"snapserve"},
    "models": {"snapserve"},
    "runtime": {"batching", "models", "snapserve"},
    "server": {"runtime", "batching", "models", "snapserve"},
    "benchmark": {"server", "runtime", "batching", "models", "snapserve", "examples"},
    "examples": {"server", "runtime", "batching", "models", "snapserve"},
}
# Inside the server, each imports only what stands before it.
SERVER = (
    "config_section",
    "torchserve_config",
    "config",
    "default_model",
    "model_options",
    "torchserve",
    "options",
    "controlled",
    "control",
    "operations",
    "guard",
    "http",
    "management",
    "pages",
    "dialects",
    "opening",
    "deploying",
    "app",
    "service",
    "workers",
    "__main__",
)
HEAVY = {"aiohttp": {"server", "benchmark"}, "prometheus_client": {"server", "benchmark"}}


def imports_of(source):
    """The dotted names of the modules that a source imports, at any place."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {each.name for each in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{each.name}" for each in node.names}
    return names


def wrong(module, source):
    """The imports of a module that run the wrong way."""
    folder, *rest = module.split(".")
    found = []
    for name in sorted(imports_of(source)):
        target, *inner = name.split(".")
        if target in FOLDERS and target != folder and target not in FOLDERS[folder]:
            found.append(name)
        if target in HEAVY and folder not in HEAVY[target]:
            found.append(name)
        if folder == target == "server" and inner and rest and inner[0] in SERVER:
            above = SERVER.index(inner[0]) > SERVER.index(rest[0])
            sibling = inner[0] == rest[0] == "dialects" and len(inner) > 1 and inner[1] != rest[1]
            if above or sibling:
                found.append(name)
    return found


def modules():
    for folder in FOLDERS:
        for file in sorted((ROOT / folder).rglob("*.py")):
            parts = file.relative_to(ROOT).with_suffix("").parts
            yield pytest.param(".".join(parts).removesuffix(".__init__"), file, id="/".join(parts))


@pytest.mark.parametrize(("module", "file"), list(modules()))
def test_imports_run_one_way(module, file):
    assert wrong(module, file.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("models.engines.base", "from runtime.model import Model", ["runtime.model", "runtime.model.Model"]),
        ("runtime.store", "import server.config", ["server.config"]),
        ("runtime.store", "def late():\n    from aiohttp import web", ["aiohttp", "aiohttp.web"]),
        ("batching.batcher", "import models", ["models"]),
        ("snapserve.client", "from models import errors", ["models", "models.errors"]),
        ("server.http.answer", "import server.dialects.classify", ["server.dialects.classify"]),
        ("server.operations.metrics", "from server import http", ["server.http"]),
        ("server.dialects.torchserve.handlers", "import server.dialects.classify.upload", None),
        ("server.app", "from server.dialects.classify import handlers", []),
        ("server.workers.worker", "from server.service import Service", []),
    ],
)
def test_a_wrong_import_is_found(module, line, found):
    assert wrong(module, line) == ([line.split()[1]] if found is None else found)


CODE = """
import os, sys
import PIL.Image, torch, torchvision  # which set some of their own
environment, limit = dict(os.environ), PIL.Image.MAX_IMAGE_PIXELS
import pkgutil, runtime, models
for package in (models, runtime):
    for each in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not each.name.endswith("__main__") and each.name.split(".")[1] not in ("optimize", "commands"):
            __import__(each.name)
assert dict(os.environ) == environment, set(os.environ.items()) ^ set(environment.items())
assert PIL.Image.MAX_IMAGE_PIXELS == limit
assert "aiohttp" not in sys.modules and "prometheus_client" not in sys.modules
print(torch.get_num_threads())
"""


def test_importing_the_core_needs_no_http_and_changes_nothing_of_the_process():
    def threads(code):
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert threads(CODE) == threads("import torch; print(torch.get_num_threads())")


def test_the_supervisor_needs_no_torch_and_aiohttp_only_for_its_management():
    code = (
        "import sys, server.workers.supervisor; assert not {'torch', 'aiohttp'} & sys.modules.keys(); "
        "import server.management.listener; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
