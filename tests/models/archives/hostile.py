"""Archives that nobody's archiver makes."""

from __future__ import annotations

import gzip
import io
import json
import stat
import struct
import tarfile
import zipfile

MANIFEST = {"runtime": "python", "model": {"modelName": "m", "handler": "h.py", "modelVersion": "1.0"}}


def manifest(**model):
    """A manifest's bytes."""
    return json.dumps({"runtime": "python", "model": {**MANIFEST["model"], **model}}).encode()


def zipped(file, *members, content=None, method=zipfile.ZIP_DEFLATED):
    """A zip archive with a manifest and further members: names, pairs with bytes, or a ZipInfo with bytes."""
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", manifest() if content is None else content)
        for member in members:
            name, data = member if isinstance(member, tuple) else (member, b"x")
            archive.writestr(name, data)
    return file


def tarred(file, *members):
    """A compressed tar archive with a manifest and further TarInfo, with or without bytes, in a folder `top`."""
    with tarfile.open(file, "w:gz") as archive:
        for member in (("top/MAR-INF/MANIFEST.json", manifest()), *members):
            info, data = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return file


def of_mode(name, mode):
    """A member of a zip archive that is of another kind than a file."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def of_kind(name, kind, target="", **more):
    """A member of a tar archive that is of another kind than a file."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    for key, value in more.items():
        setattr(info, key, value)
    return info


def nul_name(file):
    """An archive with a member whose name holds a NUL, which zipfile itself never writes."""
    zipped(file, "aXb")
    return _replaced(file, b"aXb", b"a\0b")


def encrypted(file):
    """An archive with a member whose flags say that it is encrypted."""
    zipped(file, "secret")
    data = bytearray(file.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.rindex(signature) + offset] |= 1
    file.write_bytes(data)
    return file


def longer_than_said(file):
    """An archive with a member that has more bytes than its directory says."""
    zipped(file, ("big", bytes(1 << 20)))
    data = bytearray(file.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 10)
    file.write_bytes(data)
    return file


def shorter_than_said(file):
    """An archive with a member that has fewer bytes than its directory says."""
    zipped(file, ("small", b"x" * 10), method=zipfile.ZIP_STORED)
    data = bytearray(file.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, 5000)
    file.write_bytes(data)
    return file


def overlapping(file):
    """An archive in whose directory many members are one and the same."""
    zipped(file, ("kernel", bytes(1 << 20)))
    with zipfile.ZipFile(file) as archive:
        infos = archive.infolist()
    with zipfile.ZipFile(file, "a") as archive:
        for number in range(40):
            copied = zipfile.ZipInfo(f"kernel{number}")
            for key in ("CRC", "compress_size", "file_size", "header_offset", "compress_type", "external_attr"):
                setattr(copied, key, getattr(infos[1], key))
            archive.filelist.append(copied)
            archive.NameToInfo[copied.filename] = copied
        archive._didModify = True
    return file


def truncated(file):
    """An archive whose end is missing."""
    zipped(file, ("data", b"y" * 5000))
    file.write_bytes(file.read_bytes()[:-100])
    return file


def damaged(file):
    """An archive with a changed byte in a member."""
    zipped(file, ("data", b"abcdefgh" * 100), method=zipfile.ZIP_STORED)
    return _replaced(file, b"abcdefghabcdefgh", b"abcdefghabcdefgX")


def lying_directory(file):
    """An archive whose end says that its directory is huge."""
    zipped(file, "a")
    data = bytearray(file.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x05\x06") + 12, 0x7FFFFFFF)
    file.write_bytes(data)
    return file


def huge_header(file):
    """A tar archive with a header of 50 MB."""
    return tarred(file, of_kind("top/a", tarfile.REGTYPE, pax_headers={"comment": "x" * 50_000_000}))


def header_of_digits(file):
    """A tar archive with a header of 1 MB that tarfile would search for a number and a word, for minutes."""
    digits = b"1" * (1 << 20)
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(digits)
    file.write_bytes(gzip.compress(info.tobuf(tarfile.USTAR_FORMAT) + digits + bytes(1024)))
    return file


def negative_size(file):
    """A tar archive whose second header is its first one."""
    header = bytearray(tarfile.TarInfo("top/a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(-512, 12, tarfile.GNU_FORMAT)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    file.write_bytes(gzip.compress(bytes(header) + bytes(1024)))
    return file


def _replaced(file, old, new):
    data = file.read_bytes()
    assert old in data
    file.write_bytes(data.replace(old, new))
    return file


LINK, DEVICE = stat.S_IFLNK | 0o777, stat.S_IFCHR | 0o600
