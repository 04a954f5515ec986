"""Headers of a tar or tar.gz, read as a stream, each bounded and unambiguous.

Knows the bytes of the formats (POSIX ustar and pax, GNU long names), not what is safe
to extract: `archives` does. Where Go's, GNU's and Python's readers would disagree about
a header, it is refused, so that what we checked is what another program extracts.
Memory is one buffer and one header, whatever the archive holds.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, NoReturn

from margo_supplychain.errors import UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK: Final = 512
CHUNK: Final = 1 << 16
MAX_EXTENSION: Final = 1 << 16  # bytes of one pax header or GNU long name
RATIO_SLACK: Final = 16 << 20  # bytes; small archives of zeros compress very well
_GZIP_MAGIC: Final = b"\x1f\x8b"
_OCTAL: Final = re.compile(rb" *([0-7]*)[ \0]*")
_POSIX: Final = b"ustar\x0000"
_GNU: Final = b"ustar  \x00"
_V7: Final = bytes(8)
_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"5": "directory",
}
_REFUSED: Final = {
    b"3": "a character device",
    b"4": "a block device",
    b"6": "a named pipe",
    b"7": "a contiguous file",
    b"S": "a sparse file",
}

Kind = Literal["file", "directory", "symbolic link", "hard link"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveLimits:
    """Bounds of an archive; they may be lowered, and nothing is unbounded.

    Args:
        members: most members.
        names: most characters of all names and link targets together.
        member_size: most bytes of one member.
        total: most bytes after decompression, headers included.
        ratio: most bytes out for one byte in, above 16 MiB.
    """

    members: int = 10_000
    names: int = 2 << 20
    member_size: int = 256 << 20
    total: int = 1 << 30
    ratio: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """One member as its headers describe it; nothing about it is safe yet."""

    name: str
    kind: Kind
    size: int
    mode: int
    target: str


def refuse(why: str, member: str = "") -> NoReturn:
    """Raise `UnsafeArchiveError` about one member, or about the whole archive."""
    what = f"member {member[:160]!r}" if member else "archive"
    raise UnsafeArchiveError(f"{what} {why}", member=member)


class TarStream:
    """Reads one header after the other; `data` gives the current member's bytes.

    Args:
        stream: unverified bytes of a tar, or of a tar inside one gzip member.
        limits: bounds of what is decompressed.
    """

    def __init__(self, stream: BinaryIO, limits: ArchiveLimits) -> None:
        first = _read(stream, len(_GZIP_MAGIC))
        self.compressed = first == _GZIP_MAGIC
        opened = _inflated if self.compressed else _plain
        self._pieces = opened(stream, first, limits)
        self._buffer = b""
        self._at = 0  # how much of the buffer was taken
        self._left = 0  # bytes of the current member's data
        self._padding = 0
        self._extensions = 0

    def next(self) -> Header | None:
        """Return the next member's header, or None at the end of the archive."""
        for _ in self.data():
            pass
        self._take(self._padding)
        self._padding = 0
        extended: dict[str, str] = {}
        while True:
            block = self._take(BLOCK)
            if block.count(0) == BLOCK:
                if extended:
                    refuse("is damaged: it ends after an extension header")
                self._check_end()
                return None
            _check_sum(block)
            flag = block[156:157]
            if flag not in b"xgLK":
                return self._header(block, flag, extended)
            self._extend(block, flag, extended)

    def data(self) -> Iterator[bytes]:
        """Yield what is left of the current member's bytes."""
        while self._left:
            piece = self._take(min(self._left, CHUNK))
            self._left -= len(piece)
            yield piece

    def _take(self, size: int) -> bytes:
        taken = self._buffer[self._at : self._at + size]
        self._at += len(taken)
        while len(taken) < size:
            self._buffer = next(self._pieces, b"")
            if not self._buffer:
                refuse("is damaged: it ends early")
            self._at = size - len(taken)
            taken += self._buffer[: self._at]
            self._at = min(self._at, len(self._buffer))
        return taken

    def _check_end(self) -> None:
        if self._take(BLOCK).count(0) != BLOCK:
            refuse("is damaged: one empty block, then more members")
        # To the very end, also for gzip's checksum, which comes last.
        for piece in chain((self._buffer[self._at :],), self._pieces):
            if piece.count(0) != len(piece):
                refuse("has data after its end")

    def _extend(self, block: bytes, flag: bytes, extended: dict[str, str]) -> None:
        size = _octal(block[124:136], "size")
        if size > MAX_EXTENSION:
            refuse(f"has an extension header of {size} bytes, above {MAX_EXTENSION}")
        # Headers without members would be read for ever in constant memory.
        self._extensions += 1
        if self._extensions > 4:
            refuse("has more than 4 extension headers for one member")
        data = self._take(size)
        self._take(-size % BLOCK)
        if flag in b"LK":
            key = "path" if flag == b"L" else "linkpath"
            found = {key: _name(data.removesuffix(b"\0"))}
        else:
            found = _pax(data)
        if flag == b"g" and found:
            refuse("has a global header that renames or resizes members")
        if not found.keys().isdisjoint(extended):
            refuse("has two extension headers that disagree about one member")
        extended.update(found)

    def _header(self, block: bytes, flag: bytes, extended: dict[str, str]) -> Header:
        name = extended.get("path") or _ustar_name(block)
        if flag in _REFUSED:
            refuse(f"is {_REFUSED[flag]}", name)
        kind = _KINDS.get(flag)
        if kind is None:
            refuse(f"is of the unknown type {flag!r}", name)
        size = _octal(block[124:136], "size")
        if extended.get("size", str(size)) != str(size):
            # Readers that prefer one or the other see different members.
            refuse("states two sizes", name)
        if kind != "file" and size:
            refuse(f"is a {kind} with {size} bytes of data", name)
        if kind == "file" and name.endswith("/"):
            refuse("is a file with the name of a directory", name)
        self._left, self._padding = size, -size % BLOCK
        self._extensions = 0
        return Header(
            name=name,
            kind=kind,
            size=size,
            mode=_octal(block[100:108], "mode"),
            target=extended.get("linkpath") or _name(_field(block[157:257])),
        )


# --- bytes ---------------------------------------------------------------------------


def _read(stream: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := stream.read(size - len(found))):
        found += piece
    return found


def _plain(stream: BinaryIO, first: bytes, limits: ArchiveLimits) -> Iterator[bytes]:
    total = 0
    piece = first
    while piece:
        total += len(piece)
        _check_total(total, limits)
        yield piece
        piece = stream.read(CHUNK)


def _inflated(stream: BinaryIO, first: bytes, limits: ArchiveLimits) -> Iterator[bytes]:
    inflater = zlib.decompressobj(wbits=31)  # 31: one gzip member, its CRC checked
    read, total = 0, 0
    data = first
    while not inflater.eof:
        data = data or inflater.unconsumed_tail
        if not data:
            data = stream.read(CHUNK)
            read += len(data)
            # A gzip header may hold names and comments of any length.
            _check_total(read, limits)
        try:
            piece = inflater.decompress(data, CHUNK)
        except zlib.error as why:
            raise UnsafeArchiveError(f"archive is damaged: {why}", member="") from why
        if not data and not piece and not inflater.eof:
            refuse("is damaged: its gzip data ends early")
        data = b""
        total += len(piece)
        _check_total(total, limits)
        if total > limits.ratio * read + RATIO_SLACK:
            refuse(f"expands more than {limits.ratio}-fold")
        if piece:
            yield piece
    # Some readers ignore what follows, others read it as a second member.
    if inflater.unused_data or stream.read(1):
        refuse("has data after its gzip member")


def _check_total(total: int, limits: ArchiveLimits) -> None:
    if total > limits.total:
        refuse(f"holds more than {limits.total} bytes")


# --- fields --------------------------------------------------------------------------


def _field(data: bytes) -> bytes:
    return data.partition(b"\0")[0]


def _name(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as why:
        raise UnsafeArchiveError(
            f"member {data[:160]!r} has a name that is not UTF-8",
            member=data[:160].decode("utf-8", "replace"),
        ) from why
    if "\0" in text:
        refuse("has a NUL in its name", text)
    return text


def _octal(data: bytes, what: str) -> int:
    # Base-256 numbers are for more than 8 GiB, which is above every limit.
    found = _OCTAL.fullmatch(data)
    if found is None:
        refuse(f"is damaged: {what} {data!r} is not octal")
    return int(found[1] or b"0", 8)


def _check_sum(block: bytes) -> None:
    stated = _octal(block[148:156], "checksum")
    if stated != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        refuse("is damaged: a header's checksum is wrong")


def _ustar_name(block: bytes) -> str:
    name, magic, prefix = _field(block[:100]), block[257:265], block[345:500]
    if magic not in (_POSIX, _GNU, _V7) or block[500:].count(0) != BLOCK - 500:
        refuse(
            "is damaged: a header is neither ustar, GNU nor V7", name.decode("latin1")
        )
    if magic != _POSIX and prefix.count(0) != len(prefix):
        # GNU keeps times here; some readers take them for a path.
        refuse("has a prefix that readers disagree about", name.decode("latin1"))
    if prefix := _field(prefix):
        name = prefix + b"/" + name
    return _name(name)


def _pax(data: bytes) -> dict[str, str]:
    """Return the pax records that change how a member is read (POSIX pax, 4.18)."""
    found: dict[str, str] = {}
    seen: set[bytes] = set()
    at = 0
    while at < len(data):
        length, space, _ = data[at : at + 10].partition(b" ")
        end = at + int(length) if length.isdigit() else 0
        record = data[at + len(length) + 1 : end]
        key, equals, value = record.partition(b"=")
        if not space or end > len(data) or not equals or not value.endswith(b"\n"):
            refuse("is damaged: a pax record is not LENGTH KEY=VALUE")
        if key in seen:
            refuse(f"has the pax record {key[:80]!r} twice")
        seen.add(key)
        if key.startswith(b"GNU.sparse."):
            refuse("has a sparse file")
        if key == b"hdrcharset" or b"xattr.security." in key:
            refuse(f"has the pax record {key[:80]!r}")
        if key in (b"path", b"linkpath", b"size"):
            if value == b"\n":
                refuse(f"has the pax record {key[:80]!r} without a value")
            found[key.decode()] = _name(value[:-1])
        at = end
    return found
