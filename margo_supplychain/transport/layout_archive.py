"""A tar of an OCI image layout, read in place: nothing is extracted.

The headers are read once, strictly, and give each member its bytes by their place; the
same file is a place of content and of a whole trust repository, as a layout on disk is.
Links, devices, sparse files, duplicates, names that lead elsewhere and compression are
refused. An archive that is not there, or that ends early, says nothing about what
exists.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO, Final, NamedTuple

from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    StorageError,
    UnsafeArchiveError,
)
from margo_supplychain.formats.tar_stream import ArchiveLimits, TarStream, refuse
from margo_supplychain.storage.content_store import MAX_INDEX, MAX_LAYOUT, parse_layout
from margo_supplychain.storage.durable import open_regular
from margo_supplychain.transport.bounded import BoundedStream
from margo_supplychain.transport.oci_layout import Layout, Names, identity
from margo_supplychain.transport.tagged import TaggedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.tar_stream import Header

# Members that are passed over don't count: about 4 KiB is read for each.
LIMITS: Final = ArchiveLimits(members=100_000, names=16 << 20, total=512 << 20)
_COMPRESSED: Final = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}


class Place(NamedTuple):
    """Where a member's bytes lie in the archive."""

    offset: int
    size: int


class Contents(NamedTuple):
    """What one archive holds, as long as `identity` is that of its file."""

    identity: tuple[int, ...]
    members: dict[str, Place]
    names: Names


def blob_name(digest: Digest) -> str:
    """Return the member that holds the content of `digest`."""
    return f"blobs/{digest.algorithm}/{digest.hex}"


class ArchiveLayout(Layout):
    """An OCI image layout in a tar that anybody may have written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: Contents | None = None
        # What was refused is not read again, however often a device asks.
        self._refused: tuple[tuple[int, ...], str] | None = None

    @property
    def url(self) -> str:
        """The archive's path, as `oci-archive:PATH`."""
        return f"oci-archive:{self.path}"

    def names(self, *, tick: Callable[[int], None] | None = None) -> Names:
        """Return what `index.json` lists; it is read again when the file changed."""
        with self.open(tick=tick) as (_, contents):
            return contents.names

    @contextmanager
    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content by digest; see `Source.blob`."""
        with self.open(tick=tick) as (file, contents):
            place = contents.members.get(blob_name(what.digest))
            if place is None:
                raise FetchError(
                    f"{self.url} does not hold {what.digest}",
                    url=self.url,
                    missing=True,
                )
            if place.size < start:
                raise FetchError(
                    f"{self.url} has fewer than {start} bytes of {what.digest}",
                    url=self.url,
                )
            member = _Member(file, place, start)
            left = what.size - start
            yield BoundedStream(member.read_into, left=left, url=self.url).as_binary()

    @contextmanager
    def open(
        self, *, tick: Callable[[int], None] | None = None
    ) -> Iterator[tuple[BinaryIO, Contents]]:
        """Open the archive together with what is known of its members.

        Args:
            tick: called with 0 for each header that is read.

        Raises:
            FetchError: it is not there, or no archive of a layout.
        """
        try:
            # The path to a stick may hold links; what lies on it is somebody's.
            file = open_regular(self.path, follow=False)
        except FileNotFoundError as why:
            raise self._unreachable(f"{self.path} does not exist") from why
        except StorageError as why:
            raise self._unreachable(str(why)) from why
        with file:
            now = identity(os.fstat(file.fileno()))
            yield file, self._contents(file, now, tick)

    def _contents(
        self,
        file: BinaryIO,
        now: tuple[int, ...],
        tick: Callable[[int], None] | None,
    ) -> Contents:
        if self._refused is not None and self._refused[0] == now:
            raise self._unreachable(self._refused[1])
        contents = self._known
        if contents is None or contents.identity != now:
            try:
                contents = Contents(now, *self._read(file, tick))
            except (UnsafeArchiveError, OciFormatError) as why:
                self._refused = now, f"{self.path}: {why}"
                raise self._unreachable(self._refused[1]) from why
            except OSError as why:
                raise self._unreachable(
                    f"can't read {self.path}: {why.strerror or why}"
                ) from why
            self._known = contents
        return contents

    def _read(
        self, file: BinaryIO, tick: Callable[[int], None] | None
    ) -> tuple[dict[str, Place], Names]:
        members = scan(file, tick=tick)
        version = _whole(file, members, "oci-layout", MAX_LAYOUT)
        index = _whole(file, members, "index.json", MAX_INDEX)
        found = parse_layout(version, index, what="archive")
        return members, Names(found.manifests)

    def _unreachable(self, text: str) -> FetchError:
        return FetchError(text, url=self.url, unreachable=True)


class ArchiveSource(TaggedSource):
    """Unverified bytes of a tar of an OCI image layout; implements `Source`."""

    def __init__(self, path: Path) -> None:
        super().__init__(ArchiveLayout(path))
        self.path = path


def scan(
    file: BinaryIO, *, tick: Callable[[int], None] | None = None
) -> dict[str, Place]:
    """Return where each regular file of an unverified tar lies.

    Raises:
        UnsafeArchiveError: compressed, damaged, or with members that no layout has.
    """
    start = file.read(8) or b""  # None where it would have to wait
    for magic, name in _COMPRESSED.items():
        if start.startswith(magic):
            refuse(f"is compressed with {name}, expected a plain tar")
    file.seek(0)
    tar = TarStream(file, LIMITS, skip=True)
    found: dict[str, Place] = {}
    members = characters = 0
    while (header := tar.next()) is not None:
        if tick is not None:
            tick(0)
        members += 1
        characters += len(header.name)
        if members > LIMITS.members or characters > LIMITS.names:
            refuse("has more members, or longer names, than the limits allow")
        name = _checked(header)
        if name in found:
            refuse("is there twice", header.name)
        if header.kind == "file":
            found[name] = Place(tar.offset, header.size)
    return found


class _Member:
    """Reads one member from its place, and nothing beyond it."""

    def __init__(self, file: BinaryIO, place: Place, start: int) -> None:
        self._file = file.fileno()
        self._at = place.offset + start
        self._left = place.size - start

    def read_into(self, buffer: memoryview) -> int:
        count = os.preadv(self._file, [buffer[: self._left]], self._at)
        self._at += count
        self._left -= count
        return count


def _whole(file: BinaryIO, members: dict[str, Place], name: str, limit: int) -> bytes:
    place = members.get(name)
    if place is None:
        raise OciFormatError(f"archive is not an OCI image layout: it has no {name}")
    if place.size > limit:
        raise OciFormatError(f"{name} has {place.size} bytes, more than {limit}")
    file.seek(place.offset)
    return file.read(place.size)


def _checked(header: Header) -> str:
    if header.kind not in {"file", "directory"}:
        refuse(f"is a {header.kind}", header.name)
    name = header.name.removeprefix("./").removesuffix("/")
    is_top = header.kind == "directory" and name in {"", "."}
    if not is_top and (
        any(step in ("", ".", "..") for step in name.split("/"))
        or "\\" in name
        or not name.isprintable()
    ):
        refuse("has a name that leads elsewhere", header.name)
    return name
