"""What is refused of an archive, before or while it is unpacked; and that nothing else is touched."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.models.archives import hostile
from tests.models.archives.hostile import DEVICE, LINK, manifest, of_kind, of_mode, tarred, zipped

ROOT = Path(__file__).parents[3]
BOMB = bytes(100_000_000)

# name -> how it is made, and what is said of it
ZIPS = {
    "slip": (lambda file: zipped(file, "../../evil"), "the member '../../evil' leads out of the archive"),
    "inner-slip": (lambda file: zipped(file, "a/../../evil"), "leads out of the archive"),
    "absolute": (lambda file: zipped(file, "/etc/evil"), "the member '/etc/evil' has an absolute path"),
    "backslash": (lambda file: zipped(file, "a\\..\\evil"), "a backslash or a control character"),
    "escape": (lambda file: zipped(file, "a\x1b[2Jb"), "a backslash or a control character"),
    "nul": (hostile.nul_name, "a backslash or a control character"),
    "long": (lambda file: zipped(file, "x" * 300), "has a name of more than 255 bytes"),
    "longer": (lambda file: zipped(file, "x/" * 1000 + "x"), "has a name of more than 1,024 characters"),
    "deep": (lambda file: zipped(file, "x/" * 40 + "x"), "lies in more than 32 folders"),
    "no-name": (lambda file: zipped(file, "."), "the member '.' has no name"),
    "twice": (lambda file: zipped(file, "a", "./a"), "two members of the name './a'"),
    "below-a-file": (lambda file: zipped(file, "a", "a/b"), "the member 'a/b' lies in a file"),
    "link": (lambda file: zipped(file, (of_mode("l", LINK), b"/etc/passwd")), "the member 'l' is a link"),
    "device": (lambda file: zipped(file, (of_mode("d", DEVICE), b"")), "is neither a file nor a folder"),
    "encrypted": (hostile.encrypted, "the member 'secret' is encrypted"),
    "bzip2": (lambda file: zipped(file, "a", method=zipfile.ZIP_BZIP2), "another method than deflate"),
    "many": (lambda file: zipped(file, *(f"{n}" for n in range(10_001))), "more than 10,000 files and folders"),
    "very-many": (lambda file: zipped(file, *(f"{n:080}" for n in range(45_000))), "directory of more than"),
    "bomb": (lambda file: zipped(file, ("zeros", BOMB)), "would unpack to more than 67,108,864 bytes"),
    "longer-than-said": (hostile.longer_than_said, "is damaged"),
    "shorter-than-said": (hostile.shorter_than_said, "is not of the size that the archive says"),
    "overlapping": (hostile.overlapping, "lie over each other"),
    "truncated": (hostile.truncated, "is no zip archive, or damaged"),
    "damaged": (hostile.damaged, "is damaged"),
    "lying-directory": (hostile.lying_directory, "is no zip archive, or damaged"),
    "text": (lambda file: file.write_text("hello"), "is no zip archive, or damaged"),
    "empty": (lambda file: file.touch(), "is no zip archive, or damaged"),
    "no-manifest": (lambda file: zipfile.ZipFile(file, "w").close(), "has no MAR-INF/MANIFEST.json"),
    "no-json": (lambda file: zipped(file, content=b"{"), "MANIFEST.json is not valid JSON"),
    "nested": (lambda file: zipped(file, content=b"[" * 100_000), "MANIFEST.json is not valid JSON"),
    "list": (lambda file: zipped(file, content=b"[]"), "MANIFEST.json must be an object"),
    "nameless": (lambda file: zipped(file, content=b'{"model": {}}'), "MANIFEST.json names no model"),
    "huge-manifest": (lambda file: zipped(file, content=b" " * 5_000_000), "is longer than 4,194,304 bytes"),
    "number": (lambda file: zipped(file, content=manifest(handler=7)), "handler must be text"),
    "not-there": (
        lambda file: zipped(file, content=manifest(serializedFile="model.pt")),
        "names 'model.pt' as serializedFile, which is not there",
    ),
    "elsewhere": (
        lambda file: zipped(file, content=manifest(modelFile="../x.py")),
        "names '../x.py' as modelFile, which is not there",
    ),
    "yaml": (
        lambda file: zipped(file, ("c", b"a: [1"), content=manifest(configFile="c")),
        "c is not valid YAML, line 1",
    ),
    "yaml-object": (
        lambda file: zipped(
            file, ("c", b"!!python/object/apply:os.system [ls]"), content=manifest(configFile="c")
        ),
        "c is not valid YAML",
    ),
    "yaml-list": (lambda file: zipped(file, ("c", b"- 1"), content=manifest(configFile="c")), "must be a mapping"),
    "yaml-laughs": (
        lambda file: zipped(file, ("c", LAUGHS), content=manifest(configFile="c")),
        "c has more than 100,000 values",
    ),
    "yaml-circle": (
        lambda file: zipped(file, ("c", b"a: &a [*a]"), content=manifest(configFile="c")),
        "c is not valid YAML",
    ),
    **{
        f"yaml-{name}": (
            lambda file, text=text: zipped(file, ("c", text), content=manifest(configFile="c")),
            "c is not valid YAML",
        )
        for name, text in {
            "bool": b"a: !!bool maybe",
            "int": b"a: !!int ''",
            "time": b"a: !!timestamp soon",
            "large": b"a: 1" + b":1" * 2000 + b".5",
            "binary": b"a: !!binary aGVsbG8=",
            "set": b"a: !!set {x}",
        }.items()
    },
    "yaml-long": (
        lambda file: zipped(file, ("c", b"a: 1\n#" + b" " * 300_000), content=manifest(configFile="c")),
        "c is longer than 262,144 bytes",
    ),
    "yaml-merges": (
        lambda file: zipped(file, ("c", MERGES), content=manifest(configFile="c")),
        "c has more than 100,000 values",
    ),
    "packages": (
        lambda file: zipped(file, ("r", b"evil"), content=manifest(requirementsFile="r")),
        "asks for packages (r); --install-requirements installs them",
    ),
}
LAUGHS = b"a: &a [1,1,1,1,1,1,1,1,1,1]\n" + b"".join(
    b"%c: &%c [%s]\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in range(98, 106)
)
MERGES = b"a: &a {x: 1}\n" + b"".join(
    b"%c: &%c {<<: [%s]}\n" % (name, name, b",".join([b"*%c" % (name - 1)] * 10)) for name in range(98, 106)
)
TARS = {
    "slip": (lambda file: tarred(file, ("../../evil", b"x")), "the member '../../evil' leads out of the archive"),
    "absolute": (lambda file: tarred(file, ("/etc/evil", b"x")), "has an absolute path"),
    "symlink": (lambda file: tarred(file, of_kind("top/l", tarfile.SYMTYPE, "/etc")), "'top/l' is a link"),
    "hard-link": (lambda file: tarred(file, of_kind("top/l", tarfile.LNKTYPE, "/etc/passwd")), "is a link"),
    "device": (lambda file: tarred(file, of_kind("top/d", tarfile.CHRTYPE)), "is neither a file nor a folder"),
    "pipe": (lambda file: tarred(file, of_kind("top/p", tarfile.FIFOTYPE)), "is neither a file nor a folder"),
    "twice": (lambda file: tarred(file, ("top/a", b"1"), ("top/a", b"2")), "two members of the name 'top/a'"),
    "bomb": (lambda file: tarred(file, ("top/zeros", BOMB)), "would unpack to more than 67,108,864 bytes"),
    "many": (lambda file: tarred(file, *((f"top/{n}", b"") for n in range(10_000))), "more than 10,000 files"),
    "huge-header": (hostile.huge_header, "has a directory of more than 8,192 bytes"),
    "header-of-digits": (hostile.header_of_digits, "has a directory of more than 8,192 bytes"),
    "negative": (hostile.negative_size, "the member 'top/a' has a negative size"),
    "truncated": (lambda file: cut(tarred(file, ("top/a", os.urandom(5000)))), "archive, or damaged"),
    "only-gzip": (lambda file: file.write_bytes(gzip.compress(b"hello")), "is no .tar.gz archive, or damaged"),
}


def cut(file):
    file.write_bytes(file.read_bytes()[:-3000])


def folder(store, name, *extra):
    """An unpacked archive with further entries, each made by a function of its path."""
    path = store / name
    (path / "MAR-INF").mkdir(parents=True)
    (path / "MAR-INF" / "MANIFEST.json").write_bytes(manifest())
    for entry, make in extra:
        make(path / entry)


FOLDERS = {
    "link-out": (
        "outside",
        lambda path: path.symlink_to("/etc/passwd"),
        "'outside', which the model names, is not",
    ),
    "link-to-folder": (
        "circle",
        lambda path: path.symlink_to("MAR-INF"),
        "the member 'circle' is a link to a folder",
    ),
    "pipe": ("pipe", lambda path: os.mkfifo(path), "the member 'pipe' is neither a file nor a folder"),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """What a process says of all hostile archives, what it touched elsewhere, and what it left behind."""
    store, temporary = tmp_path_factory.mktemp("store"), tmp_path_factory.mktemp("temporary")
    for name, (make, _) in ZIPS.items():
        make(store / f"{name}.mar")
    for name, (make, _) in TARS.items():
        make(store / f"{name}.tar.gz")
    for name, (entry, make, _) in FOLDERS.items():
        folder(store, name, (entry, make))
    os.mkfifo(store / "pipe.mar")
    zipped(store / "good.mar", "a", "b/c")
    tarred(store / "good.tar.gz", ("top/a", b"x"))
    folder(store, "good")
    done = subprocess.run(
        [sys.executable, "-m", "tests.models.archives.watched", str(store), "good.mar,good.tar.gz,yaml.mar"],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(temporary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), store, temporary


EXPECTED = {
    **{f"{name}.mar": text for name, (_, text) in ZIPS.items()},
    **{f"{name}.tar.gz": text for name, (_, text) in TARS.items()},
    **{name: text for name, (_, _, text) in FOLDERS.items()},
    "pipe.mar": "is neither a file nor a folder",
}
WHILE_UNPACKED = ("longer-than-said.mar", "shorter-than-said.mar", "damaged.mar", "packages.mar")


@pytest.mark.parametrize("name", EXPECTED)
def test_it_is_refused_and_the_line_says_why(outcome, name):
    described, opened = outcome[0]["said"][name]
    assert EXPECTED[name] in opened and "\n" not in opened
    assert described == ("" if name in WHILE_UNPACKED else opened)


def test_good_ones_are_opened(outcome):
    said = outcome[0]["said"]
    assert [said[name] for name in ("good.mar", "good.tar.gz", "good")] == [["", ""]] * 3


def test_nothing_outside_the_store_and_the_temporary_folder_is_touched_and_nothing_stays(outcome):
    result, _, temporary = outcome
    assert result["touched"] == []
    assert list(temporary.iterdir()) == []
