"""The project's modules and what they import, read from the source: nothing is executed."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PRODUCT = ("batching", "models", "runtime", "server", "snapserve")


def product_files():
    """Every source file that is installed and was written by hand, and the root script."""
    folders = (file for name in PRODUCT for file in (ROOT / name).rglob("*.py"))
    return [
        ROOT / "optimize_model_for_inference.py",
        *(each for each in folders if each.parent.name != "generated"),
    ]


@cache
def tree(file):
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imports(file, at_import=False):
    """The absolute names of what a file imports: modules, and what `from` takes out of them.

    at_import: only what runs when the file is imported, not what a function or a type checker would import.
    """
    return frozenset(name for node in _nodes(tree(file), at_import) for name in _names(node))


@cache
def file_of(module):
    """The source file of a module of the project, with those of the packages around it; else none."""
    path = ROOT.joinpath(*module.split("."))
    if path.with_suffix(".py").is_file():
        own = path.with_suffix(".py")
    elif (path / "__init__.py").is_file():
        own = path / "__init__.py"
    else:
        return []
    packages = [folder / "__init__.py" for folder in own.parents if folder.is_relative_to(ROOT)]
    return [own, *(package for package in packages if package.is_file())]


@cache
def reached(file, at_import=False):
    """Every module that a file imports, also through the project's own modules, by its absolute name."""
    found, waiting, seen = set(), [file], set()
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        for name in imports(current, at_import):
            found.add(name)
            waiting += file_of(name)
    return frozenset(found)


def _nodes(node, at_import):
    for child in ast.iter_child_nodes(node):
        if at_import and isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if at_import and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        yield from _nodes(child, at_import)


def _names(node):
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []
