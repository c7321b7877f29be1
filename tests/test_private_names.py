"""Names that a library does not document and may drop in any version: who uses them, and whether they exist.

A library that is listed here has an upper bound in pyproject.toml. To raise the bound, run these tests first.
"""

from __future__ import annotations

import ast
import builtins
import inspect
import re
import tomllib
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

import pytest
import torch  # noqa: F401  without it these tests, which import it by name, would count as quick

from tests.modules import PRODUCT, ROOT, file_of, product_files, tree

# library -> the only file that uses its private names, and the names: a module, a colon, what is in the module.
PRIVATE = {
    "aiohttp": (
        "server/http/connection.py",
        "aiohttp.http_exceptions:BadHttpMessage",
        "aiohttp.http_exceptions:LineTooLong",
        "aiohttp.web_protocol:RequestHandler._buffer_paused",
        "aiohttp.web_protocol:RequestHandler._current_request",
        "aiohttp.web_protocol:RequestHandler._loop",
        "aiohttp.web_protocol:RequestHandler._messages",
        "aiohttp.web_protocol:RequestHandler._next_keepalive_close_time",
        "aiohttp.web_protocol:RequestHandler._reading_paused",
        "aiohttp.web_protocol:RequestHandler._request_count",
        "aiohttp.web_protocol:RequestHandler._request_in_progress",
        "aiohttp.web_protocol:RequestHandler._waiter",
    ),
    "pillow": ("models/images/webp_library.py", "PIL:_webp"),
    "prometheus-client": (
        "server/operations/shared_metrics.py",
        "prometheus_client:mmap_dict",
        "prometheus_client.mmap_dict:MmapedDict",
        "prometheus_client.mmap_dict:MmapedDict._capacity",
        "prometheus_client.mmap_dict:MmapedDict._f",
        "prometheus_client.mmap_dict:MmapedDict._positions",
        "prometheus_client.mmap_dict:MmapedDict._used",
        "prometheus_client:values",
        "prometheus_client.values:MmapedDict",
        "prometheus_client.values:MultiProcessValue",
        "prometheus_client.values:ValueClass",
    ),
    "torch": (
        "models/torch_private.py",
        "torch:_C.PyTorchFileReader.get_all_records",
        "torch:_dynamo.config.patch",
        "torch:_inductor.aoti_compile_and_package",
        "torch:_inductor.aoti_load_package",
        "torch:_utils",
        "torch._utils:_rebuild_parameter",
        "torch._utils:_rebuild_parameter_with_state",
        "torch._utils:_rebuild_tensor",
        "torch._utils:_rebuild_tensor_v2",
        "torch:UntypedStorage._share_fd_cpu_",
    ),
}
# Without an underscore, and in no document of the library either.
UNDOCUMENTED = {
    "aiohttp": (
        "aiohttp.web_protocol:RequestHandler.access_log",
        "aiohttp.web_protocol:RequestHandler.close",
        "aiohttp.web_protocol:RequestHandler.connection_lost",
        "aiohttp.web_protocol:RequestHandler.connection_made",
        "aiohttp.web_protocol:RequestHandler.data_received",
        "aiohttp.web_protocol:RequestHandler.eof_received",
        "aiohttp.web_protocol:RequestHandler.finish_response",
        "aiohttp.web_protocol:RequestHandler.force_close",
        "aiohttp.web_protocol:RequestHandler.handle_error",
        "aiohttp.web_protocol:RequestHandler.keepalive_timeout",
        "aiohttp.web_protocol:RequestHandler.pause_writing",
        "aiohttp.web_protocol:RequestHandler.resume_reading",
        "aiohttp.web_protocol:RequestHandler.resume_writing",
        "aiohttp.web_protocol:RequestHandler.transport",
        "aiohttp.web:BaseRequest.protocol",
        "aiohttp.web:BaseRequest.writer",
        "aiohttp.abc:AbstractStreamWriter.output_size",
    ),
    "prometheus-client": (
        "prometheus_client.mmap_dict:MmapedDict.read_value",
        "prometheus_client.mmap_dict:MmapedDict.write_value",
    ),
    "pillow": ("PIL.AvifImagePlugin:DEFAULT_MAX_THREADS", "PIL.ImageFile:ImageFile.tile"),
}
# The modules that a library documents; whatever else is imported of it is private.
DOCUMENTED = {
    "aiohttp": {"aiohttp", "aiohttp.abc", "aiohttp.web"},
    "prometheus_client": {"prometheus_client", "prometheus_client.multiprocess", "prometheus_client.parser"},
}
# Methods of every named tuple, underscored lest they be taken for fields; and os._exit.
PUBLIC = {"_asdict", "_exit", "_fields", "_make", "_replace"}


@pytest.mark.parametrize("library", PRIVATE | UNDOCUMENTED)
def test_the_installed_version_has_the_names_that_the_product_uses(library):
    lost = [name for name in (*PRIVATE.get(library, ())[1:], *UNDOCUMENTED.get(library, ())) if not exists(name)]
    assert not lost, f"{library} {version(library)} has no {', '.join(lost)}"


@pytest.mark.parametrize("name", ["aiohttp.no:x", "aiohttp.web_protocol:RequestHandler._no", "torch:_no.x"])
def test_a_name_that_is_gone_is_noticed(name):
    assert not exists(name)


@pytest.mark.parametrize("library", PRIVATE | UNDOCUMENTED)
def test_its_upper_bound_is_above_the_tested_version(library):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (requirement,) = [each for each in project["dependencies"] if re.match(rf"{library}[<>=]", each)]
    bound = re.search(r"<([\d.]+)", requirement)
    assert bound, f"{requirement} has no upper bound"
    tested = re.search(rf"^{library}==([\d.]+)", (ROOT / "constraints.txt").read_text(), re.M)[1]
    assert [*map(int, tested.split("."))] < [*map(int, bound[1].split("."))]


@pytest.mark.parametrize("library", PRIVATE)
def test_the_names_that_are_listed_are_used(library):
    file, *names = PRIVATE[library]
    source = (ROOT / file).read_text()
    assert [name for name in names if not re.search(rf"\b{parts(name)[-1]}\b", source)] == []


def test_the_product_uses_no_other_private_name():
    listed = {file: {part for name in names for part in parts(name)} for file, *names in PRIVATE.values()}
    for file in product_files():
        place = str(file.relative_to(ROOT))
        assert private_names(file) - listed.get(place, set()) == set(), place


def test_no_attribute_of_ours_takes_the_place_of_one_of_the_library():
    for file in product_files():
        for node in classes(file):
            ours = set(filter(is_private, own_names(file, node)))
            for base in library_bases(file, node):
                assert not [name for name in ours if has(base, name)], f"{file}: {node.name}({base.__name__})"


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("import aiohttp\naiohttp.web._x()", {"_x"}),
        ("from aiohttp.http_writer import y", {"y"}),
        ("from prometheus_client import values", {"values"}),
        ("import torch._dynamo", {"_dynamo"}),
        ("from torch._inductor import config", {"config"}),
        ("import torch\ngetattr(torch, '_z')", {"_z"}),
        ("from aiohttp import web\nclass C(web.View):\n def f(self):\n  self._mine = self._theirs", {"_theirs"}),
        ("class C:\n def f(self):\n  self._x = 1\n def g(self, other):\n  return other._x", set()),
    ],
)
def test_a_private_name_is_found_in_the_source(source, names, tmp_path):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert private_names(file) == names


def parts(name):
    return re.split("[.:]", name)


def exists(name):
    """Whether the installed library has it: as an attribute, or set in the `__init__` of a class."""
    module, _, path = name.partition(":")
    try:
        owner = import_module(module)
    except ImportError:
        return False
    for part in path.split("."):
        if not hasattr(owner, part) and find_spec_in(owner, part):
            import_module(f"{owner.__name__}.{part}")  # a submodule that nothing has imported yet
        if not hasattr(owner, part):
            return path.endswith(part) and isinstance(owner, type) and has(owner, part)
        owner = getattr(owner, part)
    return True


def find_spec_in(owner, part):
    """Whether a package has a submodule of that name."""
    return hasattr(owner, "__path__") and find_spec(f"{owner.__name__}.{part}") is not None


def has(kind, name):
    """Whether objects of a class have an attribute: in the class, its slots or annotations, or set by a method."""
    return any(
        name in vars(each)
        or name in getattr(each, "__slots__", ())
        or name in getattr(each, "__annotations__", {})
        or re.search(rf"\bself\.{name}(: .+)? = ", source_of(each))
        for each in kind.__mro__
    )


def source_of(kind):
    try:
        return inspect.getsource(kind)
    except (OSError, TypeError):  # written in C
        return ""


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def private_names(file):
    """The private names of libraries that a file imports and uses, without the modules that they are in."""
    return imported_names(file) | attribute_names(file)


def imported_names(file):
    found = set()
    for module, member in imported(file).values():
        library = module.split(".")[0]
        if library in PRODUCT:
            continue
        documented = DOCUMENTED.get(library, {module})
        whole = f"{module}.{member}" if member else module
        if any(map(is_private, whole.split("."))) or (module not in documented and whole not in documented):
            found.add(whole.rpartition(".")[2])
        elif library in DOCUMENTED and is_module(whole) and whole not in documented:
            found.add(member)
    return found


def imported(file):
    """What a file imports, by its name there -> (module, member or "")."""
    names = {}
    for node in ast.walk(tree(file)):
        if isinstance(node, ast.Import):
            names |= {alias.asname or alias.name: (alias.name, "") for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
    return names


def is_module(name):
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def attribute_names(file):
    """Private attributes that the file defines nowhere, and those of `self` that a library's subclass does not."""
    everything, own_of_self = names_defined(tree(file)), {}
    for node in classes(file):
        if library_bases(file, node):
            own_of_self |= dict.fromkeys(filter(is_of_self, ast.walk(node)), own_names(file, node))
    used = [(each.attr, own_of_self.get(each, everything)) for each in nodes(file, ast.Attribute)]
    used += [
        (str(getattr(call.args[1], "value", "")), everything)
        for call in nodes(file, ast.Call)
        if ast.unparse(call.func) in ("getattr", "setattr", "hasattr", "delattr")
    ]
    return {name for name, own in used if is_private(name) and name not in own | PUBLIC}


def nodes(file, kind):
    return [node for node in ast.walk(tree(file)) if isinstance(node, kind)]


def classes(file):
    return nodes(file, ast.ClassDef)


def is_of_self(node):
    return isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self"


def names_defined(top):
    """Functions, classes, variables and attributes that a piece of source defines or sets."""
    found = set()
    for node in ast.walk(top):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__slots__":
            found |= set(ast.literal_eval(node.value))
    return found


def own_names(file, node):
    """What a class and those of the project that it is derived from define."""
    own = names_defined(node)
    for place, base in project_bases(file, node):
        own |= own_names(place, base)
    return own


def project_bases(file, node):
    """The classes of the project that a class is directly derived from, each with its file."""
    for base in base_names(node):
        module, member = imported(file).get(base, ("", base))
        places = file_of(module)[:1] if module else [file]
        yield from ((place, each) for place in places for each in classes(place) if each.name == member)


def library_bases(file, node):
    """The classes of libraries, other than Python's own in C, that a class is derived from at any distance."""
    found = []
    for base in base_names(node):
        first, _, rest = base.partition(".")
        module, member = imported(file).get(first, ("", ""))
        if not module or module.split(".")[0] in PRODUCT:
            continue
        owner = import_module(module)
        for part in filter(None, [member, *rest.split(".")]):
            owner = getattr(owner, part)
        found.append(owner)
    found = [each for each in found if isinstance(each, type)]  # NamedTuple is a function
    return found + [each for place, parent in project_bases(file, node) for each in library_bases(place, parent)]


def base_names(node):
    names = (ast.unparse(base.value if isinstance(base, ast.Subscript) else base) for base in node.bases)
    return [name for name in names if not hasattr(builtins, name) and name not in ("Protocol", "Generic")]
