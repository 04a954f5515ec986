"""Writes a trust repository and content into a tar of an OCI image layout.

What is put is collected in the directory `.NAME.part` beside the archive, and durable
there; `close` writes the tar as a whole, and until then the old one stays. What a run
that was killed left there, the next one goes on with. The tar's bytes follow from what
it holds: members in order, no times, no owners. One process at a time.
"""

from __future__ import annotations

import io
import os
import threading
from contextlib import contextmanager
from tarfile import PAX_FORMAT, TarInfo
from threading import Lock
from typing import TYPE_CHECKING, BinaryIO, Final

from margo_supplychain.errors import (
    FetchError,
    OciFormatError,
    StorageError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.oci import REFERENCE_NAME, index_bytes
from margo_supplychain.formats.tar_stream import BLOCK
from margo_supplychain.storage import durable
from margo_supplychain.storage.content_store import LAYOUT, ContentStore, blob_path
from margo_supplychain.storage.durable import (
    remove_directory,
    remove_file,
    storage_errors,
    temporary_file,
    write_all,
)
from margo_supplychain.storage.receive import check_stream
from margo_supplychain.transport.layout_archive import ArchiveLayout, blob_name
from margo_supplychain.transport.layout_writing import WritableLayout
from margo_supplychain.transport.local_files import open_content
from margo_supplychain.transport.oci_layout import Names
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.oci import Entry

MAX_MEMBER: Final = (8 << 30) - 1  # bytes that a tar header tells in octal
_BYTES: Final = "application/octet-stream"


class ArchiveSink(TaggedSink):
    """Writes a tar of an OCI image layout; implements `Shelf`.

    Nothing is in the archive before `close`. A sink that is not closed leaves what it
    collected to the next one.
    """

    def __init__(self, path: Path) -> None:
        self._collected = _Collected(path)
        super().__init__(self._collected)
        self.path = path
        self.part = self._collected.part

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: all is listed once, by `close`."""
        return self._collected.together()

    def close(self) -> None:
        """Write the archive, if it would change.

        Raises:
            StorageError: it can't be written, or what it held before is damaged.
        """
        self._collected.close()


class _Collected(WritableLayout, ArchiveLayout):
    """What the archive holds, and what is new in the directory beside."""

    def __init__(self, path: Path) -> None:
        WritableLayout.__init__(self)
        ArchiveLayout.__init__(self, path)
        # Where what is new is collected.
        self.part = path.with_name(f".{path.name}.part")
        self._making = threading.Lock()
        self._content: ContentStore | None = None
        # Blobs come from several threads: one of them begins.
        self._beginning = Lock()
        self._names: Names | None = None
        self._old: dict[Digest, int] | None = None
        self._removed: set[Digest] = set()
        self._is_new = False

    def listed(self) -> Names:
        """Return what the archive will list."""
        if self._names is None:
            is_there = os.path.lexists(self.path)
            # A copy: what `ArchiveLayout` knows is what the archive says.
            self._names = Names(ArchiveLayout.names(self) if is_there else ())
        return self._names

    @contextmanager
    def open_blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,
    ) -> Iterator[BinaryIO]:
        """Open content by digest, new or old; see `Source.blob`."""
        place = blob_path(self.part, what.digest)
        if os.path.lexists(place):
            with open_content(place, what, start=start, root=self.part) as stream:
                yield stream
        elif what.digest in self._removed or not os.path.lexists(self.path):
            raise FetchError(
                f"{self.url} does not hold {what.digest}", url=self.url, missing=True
            )
        else:
            with ArchiveLayout.open_blob(self, what, start=start, tick=tick) as stream:
                yield stream

    def holds(self, what: Descriptor) -> bool:
        """Tell whether content is stored with this size."""
        if self._is_begun() and self.content().has(what):
            return True
        is_kept = what.digest not in self._removed
        return is_kept and self._before().get(what.digest) == what.size

    def store(self, what: Descriptor, data: BinaryIO) -> bool:
        """Store content unless it is there and right."""
        if what.size > MAX_MEMBER:
            raise StorageError(
                f"{what.digest} has {what.size} bytes, and a tar takes {MAX_MEMBER}",
                path=str(self.path),
                hint="write an OCI image layout into a directory: oci-layout:PATH",
            )
        if self._is_right(what):
            return False
        self.content().put(what, data)
        self._removed.discard(what.digest)
        self._is_new = True
        return True

    def write(self, names: Names) -> None:
        """Let `close` write this list."""
        self._names = names
        self._is_new = True

    def remove(self, digest: Digest) -> None:
        """Leave content out of the archive."""
        self._removed.add(digest)
        place = blob_path(self.part, digest)
        if os.path.lexists(place):
            remove_file(place)

    def content(self) -> ContentStore:
        """Return the directory beside; what a killed run left there is right.

        Raises:
            StorageError: it can't be written.
        """
        # What another thread is writing there just now must not be cleared away.
        with self._making:
            if self._content is None:
                if self.part.is_symlink():
                    raise StorageError(
                        f"{self.part} is a symbolic link, and what is collected there "
                        "would lie elsewhere",
                        path=str(self.part),
                        hint="remove the link",
                    )
                content = ContentStore.create(self.part)
                content.clean()
                for digest, size in _blobs(self.part).items():
                    content.keep_intact(_described(digest, size))
                self._content = content
            return self._content

    def close(self) -> None:
        """Write the archive, if it would change; then remove the directory beside."""
        is_begun = os.path.lexists(self.part)
        if self._is_new or (is_begun and _blobs(self.content().directory)):
            self._write()
        remove_directory(self.part)
        self._content, self._names, self._old = None, None, None
        self._removed.clear()
        self._is_new = False

    def _is_begun(self) -> bool:
        return os.path.lexists(self.part)

    def _is_right(self, what: Descriptor) -> bool:
        if self._is_begun() and self.content().keep_intact(what):
            return True
        if self._before().get(what.digest) != what.size:
            return False
        try:
            with ArchiveLayout.open_blob(self, what) as stream:
                check_stream(what, stream, subject=str(what.digest))
        except VerificationError:
            return False
        return True

    def _before(self) -> dict[Digest, int]:
        """Return the size of each blob in the archive that is there."""
        old = self._old
        if old is None:
            places = {}
            if os.path.lexists(self.path):
                with self.open() as (_, contents):
                    places = contents.members
            found = ((_digest_of(name), place.size) for name, place in places.items())
            # Whole at once: other threads look at it, too.
            old = self._old = {one: size for one, size in found if one is not None}
        return old

    def _write(self) -> None:
        """Write the tar from what is new and what was there."""
        names = self.listed()
        kept = {k: v for k, v in self._before().items() if k not in self._removed}
        blobs = {**kept, **_blobs(self.content().directory)}
        index = index_bytes(sorted(names, key=_order))
        with storage_errors(self.path, "write"):
            with temporary_file(self.part, 0o644) as (temporary, descriptor):

                def add(name: str, what: Descriptor, data: BinaryIO) -> None:
                    write_all(descriptor, _header(name, what.size))
                    check_stream(
                        what,
                        data,
                        subject=name,
                        write=lambda piece: write_all(descriptor, piece),
                    )
                    write_all(descriptor, bytes(-what.size % BLOCK))

                for name, data in (("oci-layout", LAYOUT), ("index.json", index)):
                    add(name, Descriptor.of(data, _BYTES), io.BytesIO(data))
                for digest in sorted(blobs, key=str):
                    self._add_blob(_described(digest, blobs[digest]), add)
                write_all(descriptor, bytes(2 * BLOCK))
                durable.operations.sync_file(descriptor)
                durable.operations.replace(temporary, self.path)
            durable.operations.sync_directory(self.path.parent)

    def _add_blob(
        self, what: Descriptor, add: Callable[[str, Descriptor, BinaryIO], None]
    ) -> None:
        try:
            with self.open_blob(what) as stream:
                add(blob_name(what.digest), what, stream)
        except (VerificationError, FetchError) as why:
            raise StorageError(
                f"{self.url} can't be written anew: {why}",
                path=str(self.path),
                hint="repair what is damaged there, or remove it and copy again",
            ) from why


def _blobs(directory: Path) -> dict[Digest, int]:
    """Return the blobs of a layout on disk, by size."""
    found = {}
    with storage_errors(directory, "list"):
        for path in sorted((directory / "blobs").glob("*/*")):
            digest = _digest_of(f"blobs/{path.parent.name}/{path.name}")
            if digest is not None:
                found[digest] = path.lstat().st_size
    return found


def _digest_of(name: str) -> Digest | None:
    steps = name.split("/")
    if len(steps) != 3 or steps[0] != "blobs":
        return None
    try:
        return Digest(steps[1], steps[2])
    except OciFormatError:
        return None


def _described(digest: Digest, size: int) -> Descriptor:
    return Descriptor(media_type=_BYTES, digest=digest, size=size)


def _order(entry: Entry) -> tuple[str, str]:
    return entry.annotations.get(REFERENCE_NAME, ""), str(entry.descriptor.digest)


def _header(name: str, size: int) -> bytes:
    info = TarInfo(name)
    info.size = size
    return info.tobuf(PAX_FORMAT, "utf-8", "strict")
