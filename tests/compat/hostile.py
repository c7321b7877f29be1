"""Archives that want more than to be served: paths that lead outside, links, bombs, manifests that lie."""

from __future__ import annotations

import io
import json
import stat
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

_HANDLER = b"def handle(data, context): return data and ['served']\n"
_BOMB = 3 * 10**8  # bytes when it is extracted
_MANIFEST = "MAR-INF/MANIFEST.json"


def manifest(name: str, **model: object) -> bytes:
    """A manifest with a handler of one file."""
    inner = {"modelName": name, "handler": "handler.py", "modelVersion": "1.0", **model}
    return json.dumps({"createdOn": "27/11/2026 10:00:00", "runtime": "python", "model": inner}).encode()


def write_zip(file: Path, members: Mapping[str, bytes], **model: object) -> None:
    """An archive with a manifest, a handler and further members. model: of the manifest."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, manifest(file.stem, **model))
        archive.writestr("handler.py", _HANDLER)
        for name, data in members.items():
            archive.writestr(name, data)


def _bomb(file: Path) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(_MANIFEST, manifest(file.stem))
        archive.writestr("handler.py", _HANDLER)
        with archive.open("zeros.bin", "w", force_zip64=True) as member:
            for _ in range(_BOMB // 10**7):
                member.write(bytes(10**7))


def _link(file: Path, target: str) -> None:
    write_zip(file, {})
    link = zipfile.ZipInfo("weights.pt")
    link.create_system = 3  # Unix, whose modes say what is a link
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr(link, target)


def _tar(file: Path, *members: tarfile.TarInfo) -> None:
    name = file.name.removesuffix(".tar.gz")
    with tarfile.open(file, "w:gz") as archive:
        for path, data in ((f"{name}/{_MANIFEST}", manifest(name)), (f"{name}/handler.py", _HANDLER)):
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        for member in members:
            archive.addfile(member)


def _member(path: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.type, member.linkname = kind, target
    return member


def hostile_archives(outside: Path) -> dict[str, Callable[[Path], None]]:
    """File name -> what writes it. outside: folder that none of them may touch; its file `secret` is bait."""
    secret = str(outside / "secret")
    return {
        "slip.mar": lambda file: write_zip(file, {"../../../slipped.py": b"x"}),
        "absolute.mar": lambda file: write_zip(file, {str(outside / "written.py"): b"x"}),
        "backslash.mar": lambda file: write_zip(file, {"..\\..\\slipped.py": b"x"}),
        "bomb.mar": _bomb,
        "link.mar": lambda file: _link(file, secret),
        "handler-outside.mar": lambda file: write_zip(file, {}, handler=f"{outside}/handler.py"),
        "handler-above.mar": lambda file: write_zip(file, {}, handler="../../../outside/handler.py"),
        "weights-outside.mar": lambda file: write_zip(file, {}, serializedFile=secret),
        "weights-missing.mar": lambda file: write_zip(file, {}, serializedFile="nothing.pt"),
        "config-outside.mar": lambda file: write_zip(file, {}, configFile=secret),
        "requirements.mar": lambda file: write_zip(
            file, {"requirements.txt": b"a-package\n"}, requirementsFile="requirements.txt"
        ),
        "slip.tar.gz": lambda file: _tar(file, _member("slip/../../slipped.py")),
        "absolute.tar.gz": lambda file: _tar(file, _member(str(outside / "written.py"))),
        "link.tar.gz": lambda file: _tar(file, _member("link/weights.pt", tarfile.SYMTYPE, secret)),
        "hardlink.tar.gz": lambda file: _tar(file, _member("hardlink/weights.pt", tarfile.LNKTYPE, secret)),
        "device.tar.gz": lambda file: _tar(file, _member("device/zero", tarfile.CHRTYPE)),
    }
