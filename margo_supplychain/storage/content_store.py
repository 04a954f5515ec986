"""Content by digest: an OCI image layout (image-spec, image-layout.md) on disk.

`oci-layout`, `index.json` and `blobs/<algorithm>/<hex>`. A blob's name appears only
when its size and digest were checked and its bytes are durable, so a name is a promise
about what was written; a disk may still break it, and who must be sure reads through
`verify`. Memory does not grow with a blob's size. `put` needs no lock; `add_reference`
and `clean` do (`DirectoryLock`), as the caller of several steps must hold it anyway.

Example:
    >>> import io, pathlib, tempfile
    >>> from margo_supplychain.formats.oci import EMPTY
    >>> with tempfile.TemporaryDirectory() as name:
    ...     store = ContentStore.create(pathlib.Path(name, "content"))
    ...     store.put(EMPTY, io.BytesIO(b"{}"))
    ...     store.has(EMPTY)
    True
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, BinaryIO, Final, Self, final

from margo_supplychain.errors import (
    OciFormatError,
    StorageError,
    VerificationError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.oci import (
    REFERENCE_NAME,
    Entry,
    Index,
    index_bytes,
    parse_layout_index,
)
from margo_supplychain.storage import durable
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    open_regular,
    read_file,
    remove_file,
    write_file,
    write_new_file,
)
from margo_supplychain.storage.parts import (
    WORTH_KEEPING,
    receive_part,
    remove_parts,
)
from margo_supplychain.storage.receive import check_stream, receive

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest

# A layout that holds a trust repository lists one manifest for each of its files. It
# is parsed before any signature is: about 15 times as much memory.
MAX_INDEX: Final = 8 << 20
MAX_LAYOUT: Final = 4096  # bytes of `oci-layout`
LAYOUT: Final = strict_json.canonical({"imageLayoutVersion": "1.0.0"})
_PARTS: Final = ".parts"  # of content that is on its way
_NO_ANNOTATIONS: Final[Mapping[str, str]] = {}


def blob_path(directory: Path, digest: Digest) -> Path:
    """Return where a layout keeps the content of `digest`."""
    # A Digest holds a listed algorithm and lower-case hex: no path step gets in here.
    return directory / "blobs" / digest.algorithm / digest.hex


def read_layout_index(directory: Path) -> Index:
    """Read the `index.json` of the OCI image layout in `directory`.

    Raises:
        OciFormatError: no `oci-layout` of version 1, or not an index.
        StorageError: not readable.
    """
    try:
        # A link on somebody's stick would lead to the device's own files.
        version = read_file(directory / "oci-layout", limit=MAX_LAYOUT, follow=False)
        data = read_file(directory / "index.json", limit=MAX_INDEX, follow=False)
    except FileNotFoundError as why:
        absent = os.path.basename(why.filename)
        raise OciFormatError(
            f"{directory} is not an OCI image layout: it has no {absent}"
        ) from why
    return parse_layout(version, data, what=str(directory))


def parse_layout(version: bytes, index: bytes, *, what: str) -> Index:
    """Parse the unverified `oci-layout` and `index.json` of an OCI image layout.

    Raises:
        OciFormatError: not version 1, or not an index.
    """
    found = strict_json.parse(
        version, what=f"{what}/oci-layout", limit=MAX_LAYOUT, error=OciFormatError
    ).get("imageLayoutVersion")
    if not isinstance(found, str) or found.split(".")[0] != "1":
        raise OciFormatError(
            f"{what}/oci-layout has version {found!r:.40}, expected 1.0.0"
        )
    return parse_layout_index(index, limit=MAX_INDEX)


@final
class ContentStore:
    """An OCI image layout that takes and gives content by digest.

    Made by `create` or `open`; the constructor checks nothing.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @classmethod
    def create(cls, directory: Path, *, mode: int = 0o755) -> Self:
        """Make a layout, or complete and open the one that is there.

        Raises:
            OciFormatError: another kind of layout is there.
            StorageError: it can't be written.
        """
        make_directory(directory / "blobs" / "sha256", mode=mode)
        if not os.path.lexists(directory / "index.json"):
            write_new_file(directory / "index.json", index_bytes(()))
        if not os.path.lexists(directory / "oci-layout"):
            write_new_file(directory / "oci-layout", LAYOUT)
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> Self:
        """Open a layout.

        Raises:
            OciFormatError: it is none.
            StorageError: it can't be read.
        """
        read_layout_index(directory)
        return cls(directory)

    def has(self, what: Descriptor) -> bool:
        """Tell whether content of this digest and size is there; it isn't re-read."""
        try:
            with open_regular(blob_path(self.directory, what.digest)) as file:
                return os.fstat(file.fileno()).st_size == what.size
        except FileNotFoundError:
            return False

    def open_blob(self, digest: Digest) -> BinaryIO:
        """Open content for reading; its bytes are not checked again.

        Raises:
            StorageError: it is not there, or can't be read.
        """
        path = blob_path(self.directory, digest)
        try:
            # A device that reads this directory as a source follows no link, either.
            return open_regular(path, follow=False)
        except FileNotFoundError as why:
            raise StorageError(
                f"{self.directory} does not hold {digest}", path=str(path)
            ) from why

    def verify(
        self, what: Descriptor, *, tick: Callable[[int], None] | None = None
    ) -> None:
        """Read content again and compare it with its size and digest.

        Raises:
            LengthMismatchError, DigestMismatchError: a disk or somebody changed it.
            StorageError: it is not there, or can't be read.
        """
        with self.open_blob(what.digest) as file:
            check_stream(what, file, subject=str(what.digest), tick=tick)

    def keep_intact(
        self, what: Descriptor, *, tick: Callable[[int], None] | None = None
    ) -> bool:
        """Say whether content is there and right; remove it if it is damaged.

        The caller holds the directory's lock.

        Args:
            what: the content.
            tick: called with the size of each piece that is hashed; may raise to stop.

        Raises:
            StorageError: it can't be read or removed.
        """
        path = blob_path(self.directory, what.digest)
        if not os.path.lexists(path):
            return False
        if path.is_dir() and not path.is_symlink():
            raise StorageError(f"{path} is not a regular file", path=str(path))
        try:
            if _is_ours(path):
                self.verify(what, tick=tick)
                # Whoever put it there may have been killed before it synced.
                durable.operations.sync_directory(path.parent)
                return True
        except VerificationError:
            pass
        remove_file(path)
        return False

    def open_checked(
        self, what: Descriptor, *, tick: Callable[[int], None] | None = None
    ) -> BinaryIO:
        """Open content after its size and digest were checked, on the very same file.

        Args:
            what: the content.
            tick: called with the size of each piece that is hashed; may raise to stop.

        Raises:
            LengthMismatchError, DigestMismatchError: a disk or somebody changed it.
            StorageError: it is not there, or can't be read.
        """
        file = self.open_blob(what.digest)
        try:
            check_stream(what, file, subject=str(what.digest), tick=tick)
            file.seek(0)
        except BaseException:
            file.close()
            raise
        return file

    def put(
        self,
        what: Descriptor,
        data: BinaryIO,
        *,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        """Store unverified `data` if it is exactly `what`; no-op if that is there.

        What is there is hashed again, and replaced if it is something else.

        Args:
            what: size and digest that the bytes must have.
            data: read in pieces, at most one byte beyond the size.
            tick: called with the size of each piece; may raise to stop.

        Raises:
            LengthMismatchError, DigestMismatchError: other bytes; nothing is stored.
            StorageError: it can't be written.
        """
        if self.keep_intact(what):
            return
        path = blob_path(self.directory, what.digest)
        receive(path, what, data, subject=str(what.digest), tick=tick)

    def put_resumable(
        self,
        what: Descriptor,
        open_at: Callable[[int], AbstractContextManager[BinaryIO]],
        *,
        source: str = "",
        look: Callable[[int], None] | None = None,
        tick: Callable[[int], None] | None = None,
    ) -> None:
        """Store unverified bytes if they are exactly `what`, over several runs.

        Of large content, what came before it broke off is kept for the next call, and
        apart for each source: a liar spoils nobody else's. The caller holds the
        directory's lock, and knows that the content is not there.

        Args:
            what: size and digest that the bytes must have.
            open_at: opens them from a byte on.
            source: what their source is called.
            look: called with the size of each piece that came before and is hashed
                again; may raise to stop.
            tick: called with the size of each piece that comes; may raise to stop.

        Raises:
            LengthMismatchError, DigestMismatchError: other bytes; nothing is stored.
            StorageError: it can't be written.
        """
        path = blob_path(self.directory, what.digest)
        subject = str(what.digest)
        if what.size < WORTH_KEEPING:
            with open_at(0) as data:
                receive(path, what, data, subject=subject, tick=tick)
            return
        receive_part(
            path,
            self.directory / _PARTS,
            what,
            open_at,
            source=source,
            subject=subject,
            look=look,
            tick=tick,
        )

    def remove_parts(self, *, but: Collection[Digest] = ()) -> None:
        """Remove what `put_resumable` kept; the caller holds the directory's lock.

        Args:
            but: content that somebody still wants.

        Raises:
            StorageError: they can't be listed or removed.
        """
        remove_parts(self.directory / _PARTS, but=but)

    def index(self) -> Index:
        """Return `index.json`, parsed.

        Raises:
            OciFormatError: it is not an index.
            StorageError: it can't be read.
        """
        return read_layout_index(self.directory)

    def add_reference(
        self,
        descriptor: Descriptor,
        *,
        name: str | None = None,
        artifact_type: str | None = None,
        annotations: Mapping[str, str] = _NO_ANNOTATIONS,
    ) -> None:
        """List content in `index.json`; `name` moves if it was another's.

        The caller holds the directory's lock: two writers would lose one entry.

        Args:
            descriptor: content that is there.
            name: the tag, kept as `org.opencontainers.image.ref.name`.
            artifact_type: the manifest's, for those who list without opening.
            annotations: more of them.

        Raises:
            StorageError: the content is not there, or the index can't be written.
        """
        if not self.has(descriptor):
            raise StorageError(
                f"{self.directory} does not hold {descriptor.digest}",
                path=str(blob_path(self.directory, descriptor.digest)),
            )
        texts = dict(annotations)
        if name is not None:
            texts[REFERENCE_NAME] = name
        added = Entry(
            descriptor=descriptor, artifact_type=artifact_type, annotations=texts
        )
        kept = [
            entry
            for entry in self.index().manifests
            if not _replaces(added, entry, name)
        ]
        write_file(self.directory / "index.json", index_bytes([*kept, added]))

    def clean(self) -> None:
        """Remove what killed writers left; the caller holds the directory's lock.

        Raises:
            StorageError: a directory can't be listed or written.
        """
        clean_temporary(self.directory)
        for directory in (self.directory / "blobs").iterdir():
            clean_temporary(directory)


def _is_ours(path: Path) -> bool:
    """Say whether a file is ours alone: nobody else can write it later."""
    found = os.lstat(path)
    return (
        stat.S_ISREG(found.st_mode)
        and found.st_uid == os.geteuid()
        and found.st_nlink == 1
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    )


def _replaces(added: Entry, entry: Entry, name: str | None) -> bool:
    tag = entry.annotations.get(REFERENCE_NAME)
    # A tag names one thing, and one thing is listed without a tag at most once.
    return tag == name and (
        name is not None or entry.descriptor.digest == added.descriptor.digest
    )
