"""Tar archives for tests, honest ones and ones that no honest program writes."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import pytest

from margo_supplychain.errors import UnsafeArchiveError
from margo_supplychain.formats.archives import ArchiveLimits, Member, check_archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, **fields: Any) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def tar(
    *members: tuple[tarfile.TarInfo, bytes] | tarfile.TarInfo,
    form: int = tarfile.PAX_FORMAT,
    **options: Any,
) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=form, **options) as archive:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            if info.isreg():
                info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return target.getvalue()


def raw(
    name: bytes, flag: bytes = b"0", size: int | bytes = 0, **parts: bytes
) -> bytes:
    """One header block by hand, with a right checksum unless it is given."""
    digits = size if isinstance(size, bytes) else b"%011o\0" % size
    block = (
        name.ljust(100, b"\0")
        + parts.get("mode", b"0000644\0")
        + parts.get("uid", b"0000000\0")
        + parts.get("gid", b"0000000\0")
        + digits
        + parts.get("mtime", b"00000000000\0")
    )
    rest = (
        flag
        + parts.get("link", b"").ljust(100, b"\0")
        + parts.get("magic", b"ustar\x0000")
        + bytes(64)
        + parts.get("devmajor", bytes(8))
        + parts.get("devminor", bytes(8))
        + parts.get("prefix", b"").ljust(155, b"\0")
        + parts.get("tail", bytes(12))
    )
    total = sum(block) + sum(rest) + 8 * 32
    return block + parts.get("sum", b"%06o\0 " % total) + rest


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(*records: bytes, flag: bytes = b"x", **parts: bytes) -> bytes:
    """A pax header of `KEY=VALUE` records, by hand."""
    data = b""
    for record in records:
        length = len(record) + 3
        length += len(str(length)) - 1
        line = b"%d %s\n" % (length, record)
        assert len(line) == length
        data += line
    return raw(b"pax", flag, len(data), **parts) + padded(data)


END = bytes(1024)


def check(data: bytes, **limits: int) -> tuple[Member, ...]:
    return check_archive(io.BytesIO(data), limits=ArchiveLimits(**limits))


def refused(data: bytes, match: str, **limits: int) -> None:
    with pytest.raises(UnsafeArchiveError, match=match):
        check(data, **limits)
    with pytest.raises(UnsafeArchiveError, match=match):
        check(gzip.compress(data), **limits)
