"""Headers of a tar or tar.gz, read as a stream, each bounded and unambiguous.

Knows the bytes of the formats (POSIX ustar and pax, GNU long names), not what is safe
to extract: `archives` does. Where Go's, GNU's and Python's readers would disagree about
a header, it is refused, so that what we checked is what another program extracts.
Memory is one buffer and one header, whatever the archive holds.
"""

from __future__ import annotations

import os
import re
import zlib
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, NoReturn

from margo_supplychain.errors import UnsafeArchiveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK: Final = 512
CHUNK: Final = 1 << 16
_HEADERS: Final = 1 << 12  # bytes read at once where only headers are
MAX_EXTENSION: Final = 1 << 16  # bytes of one pax header or GNU long name
RATIO_SLACK: Final = 16 << 20  # bytes; small archives of zeros compress very well
_GZIP_MAGIC: Final = b"\x1f\x8b"
# Of blanks alone, GNU makes an error and others 0.
_OCTAL: Final = re.compile(rb" *([0-7]+)[ \0]*|\0+", re.ASCII)
_UNUSED: Final = re.compile(rb"[ \0]*")
_PAX_ID: Final = re.compile(rb"[0-9]{1,10}")
_PAX_TIME: Final = re.compile(rb"-?[0-9]{1,12}(?:\.[0-9]{1,20})?")
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
_MOST_ID: Final = (1 << 32) - 1
_MOST_TIME: Final = (1 << 33) - 1  # in the year 2242, as far as octal goes
# Also in headers where nothing uses them: other readers stop at what is no number.
_NUMBERS: Final = (
    ("mode", slice(100, 108), _MOST_ID),
    ("uid", slice(108, 116), _MOST_ID),
    ("gid", slice(116, 124), _MOST_ID),
    ("mtime", slice(136, 148), _MOST_TIME),
)
_DEVICES: Final = (("devmajor", slice(329, 337)), ("devminor", slice(337, 345)))
# Some readers take another name, size or type from these; some delete files for them.
_PAX_REFUSED: Final = re.compile(
    rb"hdrcharset|GNU\.(?!sparse\.).*|SCHILY\.(?:filetype|realsize|offset|volhdr.*)"
    rb"|.*xattr\.security\..*",
    re.DOTALL,
)
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
        limits: bounds of what is read, and decompressed.
        skip: pass over members' bytes in `stream`, which can seek, without reading.
    """

    def __init__(
        self, stream: BinaryIO, limits: ArchiveLimits, *, skip: bool = False
    ) -> None:
        first = _read(stream, len(_GZIP_MAGIC))
        self.compressed = first == _GZIP_MAGIC
        self._seek = stream.seek if skip and not self.compressed else None
        if self.compressed:
            self._pieces = _inflated(stream, first, limits)
        else:
            size = CHUNK if self._seek is None else _HEADERS
            self._pieces = _plain(stream, first, limits, size)
        self._buffer = b""
        self._at = 0  # how much of the buffer was taken
        self._left = 0  # bytes of the current member's data
        self._padding = 0
        self._passed = 0

    @property
    def offset(self) -> int:
        """Where what comes next begins in the tar: at first, the member's data."""
        return self._passed

    def next(self) -> Header | None:
        """Return the next member's header, or None at the end of the archive."""
        if self._seek is not None:
            self._pass_over(self._seek)
        for _ in self.data():
            pass
        self._take(self._padding)
        self._padding = 0
        extended: dict[str, str] = {}
        flags = b""
        while True:
            block = self._take(BLOCK)
            if block.count(0) == BLOCK:
                if flags.strip(b"g"):
                    refuse("is damaged: it ends after an extension header")
                self._check_end()
                return None
            _check_sum(block)
            _check_numbers(block)
            flag = block[156:157]
            if flag not in b"xgLK":
                return self._header(block, flag, extended)
            flags += flag
            _check_extensions(flags)
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
        self._passed += size
        return taken

    def _pass_over(self, seek: Callable[[int, int], int]) -> None:
        # The last byte is read: only so a tar that ends early is found out.
        if (beyond := self._left - 1 - (len(self._buffer) - self._at)) > 0:
            self._buffer, self._at = b"", 0
            seek(beyond, os.SEEK_CUR)
            self._passed += self._left - 1
            self._left = 1

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
        if _magic(block) not in ((_POSIX,) if flag in b"xg" else (_POSIX, _GNU)):
            refuse("is damaged: an extension header is neither ustar nor GNU")
        data = self._take(size)
        self._take(-size % BLOCK)
        if flag in b"LK":
            key = "path" if flag == b"L" else "linkpath"
            name = _name(data.removesuffix(b"\0"))
            if not name:
                refuse("is damaged: a long name of no length")
            found = {key: name}
        else:
            found = _pax(data)
        if flag == b"g" and found:
            refuse("has a global header that renames or resizes members")
        extended.update(found)

    def _header(self, block: bytes, flag: bytes, extended: dict[str, str]) -> Header:
        raw = _ustar_name(block)
        name = extended["path"] if "path" in extended else _name(raw)
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
        # Readers that still know V7 go by the header's own name.
        of_directory = name.endswith("/") or (flag == b"\0" and raw.endswith(b"/"))
        if kind == "file" and of_directory:
            refuse("is a file with the name of a directory", name)
        target = extended.get("linkpath")
        self._left, self._padding = size, -size % BLOCK
        return Header(
            name=name,
            kind=kind,
            size=size,
            mode=_octal(block[100:108], "mode"),
            target=_name(_field(block[157:257])) if target is None else target,
        )


# --- bytes ---------------------------------------------------------------------------


def _read(stream: BinaryIO, size: int) -> bytes:
    found = b""
    while len(found) < size and (piece := stream.read(size - len(found))):
        found += piece
    return found


def _plain(
    stream: BinaryIO, first: bytes, limits: ArchiveLimits, size: int
) -> Iterator[bytes]:
    total = 0
    piece = first
    while piece:
        total += len(piece)
        _check_total(total, limits)
        yield piece
        piece = stream.read(size)


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
        # What stands there is not told: it may be a piece of any file at all.
        refuse(f"is damaged: {what} is not octal")
    return int(found[1] or b"0", 8)


def _check_numbers(block: bytes) -> None:
    for what, where, most in _NUMBERS:
        data = block[where]
        # GNU writes owners and times in base 256 when octal does not suffice.
        large = data[:1] == b"\x80"
        if (int.from_bytes(data[1:]) if large else _octal(data, what)) > most:
            refuse(f"is damaged: {what} is too large")
    for what, where in _DEVICES:
        if _UNUSED.fullmatch(block[where]) is None:
            _octal(block[where], what)


def _check_extensions(flags: bytes) -> None:
    """Refuse extension headers for one member that not all readers put together.

    One pax header, or a GNU long name and a long target; before them, global ones.
    """
    # Headers without members would be read for ever in constant memory.
    if len(flags) > 4:
        refuse("has more than 4 extension headers for one member")
    if flags.lstrip(b"g") not in (b"", b"x", b"L", b"K", b"LK", b"KL"):
        refuse("has two extension headers that disagree about one member")


def _check_sum(block: bytes) -> None:
    stated = _octal(block[148:156], "checksum")
    if stated != sum(block[:148]) + sum(block[156:]) + 8 * ord(" "):
        refuse("is damaged: a header's checksum is wrong")


def _magic(block: bytes) -> bytes:
    magic = block[257:265]
    if magic not in (_POSIX, _GNU, _V7) or block[500:].count(0) != BLOCK - 500:
        name = _field(block[:100]).decode("latin1")
        refuse("is damaged: a header is neither ustar, GNU nor V7", name)
    return magic


def _ustar_name(block: bytes) -> bytes:
    magic = _magic(block)
    name, prefix = _field(block[:100]), block[345:500]
    if magic != _POSIX and prefix.count(0) != len(prefix):
        # GNU keeps times here; some readers take them for a path.
        refuse("has a prefix that readers disagree about", name.decode("latin1"))
    if prefix := _field(prefix):
        name = prefix + b"/" + name
    return name


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
        if not key or b"\0" in key:
            refuse(f"is damaged: a pax record is called {key[:80]!r}")
        if key in seen:
            refuse(f"has the pax record {key[:80]!r} twice")
        seen.add(key)
        _check_record(key, value[:-1])
        if key in (b"path", b"linkpath", b"size"):
            found[key.decode()] = _name(value[:-1])
        at = end
    return found


def _check_record(key: bytes, value: bytes) -> None:
    if key.startswith(b"GNU.sparse."):
        refuse("has a sparse file")
    if _PAX_REFUSED.fullmatch(key):
        refuse(f"has the pax record {key[:80]!r}")
    if key in (b"path", b"linkpath", b"size") and not value:
        refuse(f"has the pax record {key[:80]!r} without a value")
    if key in (b"uname", b"gname") and b"\0" in value:
        refuse(f"has a NUL in the pax record {key[:80]!r}")
    is_id, is_time = key in (b"uid", b"gid"), key in (b"mtime", b"atime", b"ctime")
    if (
        (is_id and _PAX_ID.fullmatch(value) is None)
        or (is_id and int(value) > _MOST_ID)
        or (is_time and _PAX_TIME.fullmatch(value) is None)
    ):
        refuse(
            f"is damaged: {key.decode()} {value[:40]!r} in a pax record is no number"
        )
