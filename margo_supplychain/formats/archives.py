"""Archives of components: what is safe to extract, and how to build one reproducibly.

Reads streams and never extracts: after `check_archive`, any ordinary program may
extract the same bytes into an empty directory. Links are kept where they can't matter:
a hard link names an earlier file, a symbolic link is relative, stays inside its
top-level directory and no member lies below it (charts use such links). The Margo
specification demands these checks of WFM and device (application-registry, "Safety").

Example:
    >>> data = build_compose_archive({"compose.yaml": b"services: {}"}, "web-stack")
    >>> import io
    >>> check_compose_archive(io.BytesIO(data)).top
    'web-stack'
"""

from __future__ import annotations

import io
import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import ApplicationFormatError, UnsafeArchiveError
from margo_supplychain.formats.tar_stream import (
    BLOCK,
    ArchiveLimits,
    Header,
    Kind,
    TarStream,
    refuse,
)
from margo_supplychain.formats.titles import folded

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "ArchiveLimits",
    "ComponentArchive",
    "Member",
    "build_compose_archive",
    "check_archive",
    "check_compose_archive",
    "check_helm_chart",
]

COMPOSE_FILE: Final = "compose.yaml"
CHART_FILE: Final = "Chart.yaml"
MAX_MAIN_FILE: Final = 1 << 20
MAX_NAME: Final = 1024
MAX_STEP: Final = 255  # bytes; what Linux file systems take
MAX_DEPTH: Final = 32
DEFAULT_LIMITS: Final = ArchiveLimits()
# What people write instead of compose.yaml and Chart.yaml.
_NEAR: Final = re.compile(r"/(?:(?:docker-)?compose|chart)\.ya?ml$", re.IGNORECASE)
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One checked member: `name` is relative and normalised, `target` a link's."""

    name: str
    kind: Kind
    size: int
    mode: int
    target: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentArchive:
    """A checked Compose archive or Helm chart.

    Args:
        top: its only top-level directory.
        members: everything in it.
        main: the bytes of its `compose.yaml` or `Chart.yaml`.
    """

    top: str
    members: tuple[Member, ...]
    main: bytes


def check_archive(
    stream: BinaryIO, *, limits: ArchiveLimits = DEFAULT_LIMITS
) -> tuple[Member, ...]:
    """Read unverified bytes of a tar or tar.gz to the end and return its members.

    Raises:
        UnsafeArchiveError: damaged, ambiguous, above a limit, or with a member that
            must not be extracted.
    """
    return _check(TarStream(stream, limits), limits, main=None)[0]


def check_compose_archive(
    stream: BinaryIO, *, limits: ArchiveLimits = DEFAULT_LIMITS
) -> ComponentArchive:
    """Check a Margo Compose archive: one top-level directory with `compose.yaml`.

    What `compose.yaml` says is not checked: see `formats.compose`.

    Raises:
        UnsafeArchiveError: as `check_archive`, or not a Compose archive.
    """
    return _component(stream, limits, COMPOSE_FILE)


def check_helm_chart(
    stream: BinaryIO, *, limits: ArchiveLimits = DEFAULT_LIMITS
) -> ComponentArchive:
    """Check a packed Helm chart: one top-level directory with `Chart.yaml`.

    Raises:
        UnsafeArchiveError: as `check_archive`, or not a Helm chart.
    """
    return _component(stream, limits, CHART_FILE)


def build_compose_archive(
    files: Mapping[str, bytes], top: str, *, executables: Collection[str] = _NONE
) -> bytes:
    """Return a Compose archive of `files`, the same bytes on every machine.

    Members are sorted and owned by nobody in particular, at the epoch. The gzip member
    *stores*: what deflate makes of data differs between zlib's versions and forks.

    Args:
        files: content by path below the top-level directory.
        top: the top-level directory's name.
        executables: paths that may be executed.

    Raises:
        ApplicationFormatError: if a device would refuse the archive.
    """
    names = {f"{top}/{path}": path for path in files}
    directories = {
        name[:at] for name in names for at, one in enumerate(name) if one == "/"
    }
    if both := sorted(directories & names.keys()):
        raise ApplicationFormatError(f"{both[0][:160]!r} is a file and a directory")
    try:
        for name in names:
            _path(name, name)
        archive = _archive_bytes(files, names, directories, executables)
        check_compose_archive(io.BytesIO(archive))
    except UnsafeArchiveError as why:
        raise ApplicationFormatError(f"component {top[:80]!r}: {why}") from why
    return archive


# --- checking ------------------------------------------------------------------------


def _component(stream: BinaryIO, limits: ArchiveLimits, main: str) -> ComponentArchive:
    source = TarStream(stream, limits)
    if not source.compressed:
        refuse("is not gzip, expected a .tar.gz")
    members, data = _check(source, limits, main=main)
    tops = {member.name.partition("/")[0] for member in members}
    loose = any("/" not in one.name and one.kind != "directory" for one in members)
    if loose or len(tops) != 1:
        shown = ", ".join(sorted(tops)[:5])
        refuse(f"has {shown[:160]} at its top, expected exactly one directory")
    top = tops.pop()
    if data is None:
        near = ", ".join(one.name for one in members if _NEAR.search(one.name))
        refuse(f"has no file {top}/{main}" + (f" but {near[:160]}" if near else ""))
    return ComponentArchive(top=top, members=members, main=data)


def _check(
    source: TarStream, limits: ArchiveLimits, *, main: str | None
) -> tuple[tuple[Member, ...], bytes | None]:
    tree = _Tree()
    members: list[Member] = []
    found: bytes | None = None
    names, count = 0, 0
    while (header := source.next()) is not None:
        names += len(header.name) + len(header.target)
        count += 1
        if count > limits.members:
            refuse(f"has more than {limits.members} members")
        if names > limits.names:
            refuse(f"has names of more than {limits.names} bytes")
        if header.size > limits.member_size:
            why = f"has {header.size} bytes, more than {limits.member_size}"
            refuse(why, header.name)
        member = _member(header)
        if member is None:
            continue
        tree.add(member)
        members.append(member)
        top, _, rest = member.name.partition("/")
        if main is not None and rest == main and member.kind == "file":
            if member.size > MAX_MAIN_FILE:
                refuse(f"has more than {MAX_MAIN_FILE} bytes", f"{top}/{main}")
            found = b"".join(source.data())
    if not members:
        refuse("holds nothing")
    return tuple(members), found


def _member(header: Header) -> Member | None:
    name = header.name
    # `tar -c .` writes `./` for the directory itself and before each name.
    if header.kind == "directory" and name in (".", "./"):
        return None
    path = _path(name, name)
    if header.mode & 0o7000:
        refuse("is setuid, setgid or sticky", name)
    target: str | None = None
    if header.kind == "symbolic link":
        target = _symbolic_target(header, path)
    elif header.kind == "hard link":
        target = _path(header.target, name)
    return Member(
        name=path,
        kind=header.kind,
        size=header.size,
        mode=header.mode & 0o777,
        target=target,
    )


def _path(text: str, member: str) -> str:
    """Return a name as a relative, normalised path, without a leading `./`."""
    _check_characters(text, member)
    if text.startswith("/"):
        refuse("is absolute", member)
    steps = text.removeprefix("./").removesuffix("/").split("/")
    if ".." in steps:
        refuse("leaves its directory by '..'", member)
    if "" in steps or "." in steps:
        refuse("is not a normalised path", member)
    if len(steps) > MAX_DEPTH or any(len(one.encode()) > MAX_STEP for one in steps):
        refuse(f"is deeper than {MAX_DEPTH} or has a step above {MAX_STEP}", member)
    return "/".join(steps)


def _check_characters(text: str, member: str) -> None:
    if not 0 < len(text) <= MAX_NAME:
        refuse(f"has a name or target of {len(text)} characters", member)
    if "\\" in text or not text.isprintable():
        refuse("has a backslash or a control character in its name", member)


def _symbolic_target(header: Header, path: str) -> str:
    name, target = header.name, header.target
    _check_characters(target, name)
    if target.startswith("/"):
        refuse(f"links to the absolute path {target[:160]!r}", name)
    steps = [step for step in target.split("/") if step not in ("", ".")]
    up = 0
    while up < len(steps) and steps[up] == "..":
        up += 1
    # After a named step, which may itself be a link, `..` could lead anywhere.
    if ".." in steps[up:] or up > path.count("/") - 1:
        refuse(f"links to {target[:160]!r}, outside its top-level directory", name)
    return target


class _Tree:
    """What the members seen so far make of a file system, names folded."""

    def __init__(self) -> None:
        self._members: dict[str, Member] = {}
        self._directories: dict[str, str] = {}

    def add(self, member: Member) -> None:
        """Take one member in, in the order of the archive."""
        name = member.name
        key = folded(name)
        other = self._members.get(key)
        if other is not None:
            same = other.name == name
            refuse("comes twice" if same else f"clashes with {other.name!r}", name)
        at = name.find("/")
        while at != -1:
            self._enter(name[:at], name)
            at = name.find("/", at + 1)
        if member.kind == "directory":
            self._enter(name, name)
        elif key in self._directories:
            refuse("replaces a directory", name)
        if member.kind == "hard link":
            self._check_hard_link(member)
        self._members[key] = member

    def _enter(self, directory: str, name: str) -> None:
        key = folded(directory)
        other = self._members.get(key)
        if other is not None and other.kind != "directory":
            refuse(f"lies below the {other.kind} {other.name!r}", name)
        spelt = self._directories.setdefault(key, directory)
        if spelt != directory:
            refuse(f"clashes with {spelt!r}", name)

    def _check_hard_link(self, member: Member) -> None:
        target = member.target or ""
        other = self._members.get(folded(target))
        top = member.name.partition("/")[0]
        if other is None or other.kind != "file" or other.name != target:
            refuse(f"links to {target!r}, which is no earlier file", member.name)
        if "/" not in target or target.partition("/")[0] != top:
            why = f"links to {target!r}, outside its top-level directory"
            refuse(why, member.name)


# --- building ------------------------------------------------------------------------


def _archive_bytes(
    files: Mapping[str, bytes],
    names: Mapping[str, str],
    directories: Collection[str],
    executables: Collection[str],
) -> bytes:
    parts: list[bytes] = []
    for name in sorted({*directories, *names}):
        if name in directories:
            parts.append(_header_bytes(f"{name}/", b"5", 0, 0o755))
        else:
            path, data = names[name], files[names[name]]
            mode = 0o755 if path in executables else 0o644
            parts += (_header_bytes(name, b"0", len(data), mode), data)
            parts.append(bytes(-len(data) % BLOCK))
    return _stored_gzip(b"".join(parts) + bytes(2 * BLOCK))


def _header_bytes(name: str, flag: bytes, size: int, mode: int) -> bytes:
    data = name.encode()
    if len(data) <= 100 and name.isascii():
        return _ustar(data, flag, size, mode)
    record = b" path=" + data + b"\n"
    # A pax record's length counts its own digits.
    length = len(record)
    while len(str(length)) + len(record) != length:
        length = len(str(length)) + len(record)
    record = str(length).encode() + record
    extension = _ustar(b"PaxHeaders/path", b"x", len(record), 0o644)
    extension += record + bytes(-len(record) % BLOCK)
    return extension + _ustar(data[:100], flag, size, mode)


def _ustar(name: bytes, flag: bytes, size: int, mode: int) -> bytes:
    numbers = (
        b"%07o\0" % mode + 2 * (b"%07o\0" % 0) + b"%011o\0" % size + b"%011o\0" % 0
    )
    start = name.ljust(100, b"\0") + numbers
    end = (flag + bytes(100) + b"ustar\x0000").ljust(BLOCK - 156, b"\0")
    total = sum(start) + sum(end) + 8 * ord(" ")
    return start + b"%06o\0 " % total + end


def _stored_gzip(data: bytes) -> bytes:
    parts = [b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"]  # no name, no time, any OS
    for at in range(0, len(data), 0xFFFF):
        piece = data[at : at + 0xFFFF]
        last = at + len(piece) == len(data)
        size = len(piece)
        # RFC 1951 3.2.4: final bit and type 00, length, its complement, the bytes.
        parts.append(bytes([last]) + size.to_bytes(2, "little"))
        parts += ((size ^ 0xFFFF).to_bytes(2, "little"), piece)
    parts.append(zlib.crc32(data).to_bytes(4, "little"))
    parts.append((len(data) & 0xFFFFFFFF).to_bytes(4, "little"))
    return b"".join(parts)
