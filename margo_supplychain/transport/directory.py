"""A trust repository as files: `metadata/`, `targets/`, and an OCI image layout beside.

This is the standard layout of TUF with consistent snapshots (TUF 6.2): each metadata
file but `timestamp.json` has its version in its name, each target file its digest.
`DirectorySource` reads it as unverified bytes from a disk, share or stick that anybody
may have written; `DirectorySink` also writes it and looks through it. Names are checked
before they become paths, and only regular files are opened, so that no pipe or device
can hang a reader.

Example:
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     sink = DirectorySink(pathlib.Path(name))
    ...     sink.put_metadata("1.root.json", b"{}")
    ...     sink.metadata("1.root.json", limit=100)
    b'{}'
"""

from __future__ import annotations

import io
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.errors import StorageError
from margo_supplychain.formats.names import target_path
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    remove_file,
    storage_errors,
    write_file,
    write_new_file,
)
from margo_supplychain.storage.receive import receive
from margo_supplychain.transport.bounded import BoundedStream, read_at_most
from margo_supplychain.transport.local_files import open_content, open_untrusted
from margo_supplychain.transport.locations import (
    TIMESTAMP,
    hashed_target,
    is_versioned,
    metadata_name,
    removable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.names import TargetPath


class DirectorySource:
    """Unverified bytes of a trust repository in a directory; implements `Source`.

    Nothing is opened before it is asked for: a directory that is not there is an
    unreachable source, and may be back at the next call.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.directory)

    def metadata(
        self,
        filename: str,
        *,
        limit: int,
        tick: Callable[[int], None] | None = None,
    ) -> bytes:
        """Return a metadata file; see `Source.metadata`."""
        path = self.directory / "metadata" / metadata_name(filename, url=self.url)
        with open_untrusted(path, root=path.parent) as file:
            read_into = file.readinto  # type: ignore[attr-defined]  # BinaryIO does not name it
            stream = BoundedStream(read_into, left=limit, url=str(path))
            return read_at_most(stream.as_binary(), limit, url=str(path), tick=tick)

    def target(
        self,
        path: TargetPath,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - files don't wait
    ) -> AbstractContextManager[BinaryIO]:
        """Open a target file; see `Source.target`."""
        steps = hashed_target(path, what, url=self.url)
        place = self.directory.joinpath("targets", *steps)
        return open_content(place, what, start=start, root=self.directory)

    def blob(
        self,
        what: Descriptor,
        *,
        start: int = 0,
        tick: Callable[[int], None] | None = None,  # noqa: ARG002 - files don't wait
    ) -> AbstractContextManager[BinaryIO]:
        """Open content of the layout beside; see `Source.blob`."""
        place = blob_path(self.directory, what.digest)
        return open_content(place, what, start=start, root=self.directory)


class DirectorySink(DirectorySource):
    """Writes a trust repository as files; implements `Shelf`.

    Each call is durable when it returns. Who makes several holds the directory's lock
    (`DirectoryLock`), and then may call `clean`.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._content: ContentStore | None = None

    def has_blob(self, what: Descriptor) -> bool:
        """Tell whether content is in the layout beside; see `Sink.has_blob`.

        Raises:
            StorageError: it can't be read, or is no regular file.
        """
        return ContentStore(self.directory).has(what)

    def put_blob(self, what: Descriptor, data: BinaryIO) -> None:
        """Store content in the layout beside, unless it is there and right.

        The caller holds the directory's lock.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            OciFormatError: the directory holds another kind of layout.
            StorageError: it can't be written.
        """
        content = self.content()
        if not content.keep_intact(what):
            content.put(what, data)

    def put_manifest(
        self,
        what: Descriptor,
        data: bytes,
        *,
        tag: str | None = None,  # noqa: ARG002 - files are found by digest alone
    ) -> None:
        """Store a manifest as `put_blob` does."""
        self.put_blob(what, io.BytesIO(data))

    def put_target(self, path: TargetPath, what: Descriptor, data: BinaryIO) -> None:
        """Store a target file as `<dir>/<HASH>.<file>`; see `Sink.put_target`.

        Raises:
            LengthMismatchError, DigestMismatchError: `data` is not `what`.
            StorageError: it can't be written.
        """
        steps = hashed_target(target_path(path), what, url=self.url)
        place = self.directory.joinpath("targets", *steps)
        receive(place, what, data, subject=path)

    def put_metadata(self, filename: str, data: bytes) -> None:
        """Store a metadata file; only `timestamp.json` ever changes its bytes.

        Raises:
            ConflictError: the versioned name exists with other bytes.
            StorageError: not a metadata file's name, or it can't be written.
        """
        path = self.directory / "metadata" / metadata_name(filename, url=self.url)
        if filename != TIMESTAMP and not is_versioned(filename):
            raise StorageError(
                f"{path} would be metadata without a version in its name, "
                "as only timestamp.json is",
                path=str(path),
            )
        make_directory(path.parent)
        if filename == TIMESTAMP:
            write_file(path, data)
        else:
            write_new_file(path, data)

    def metadata_files(self) -> Iterator[str]:
        """Yield the names of metadata files; see `Shelf.metadata_files`.

        Raises:
            StorageError: the directory can't be listed.
        """
        directory = self.directory / "metadata"
        with storage_errors(directory, "list"):
            found = list(directory.iterdir()) if directory.is_dir() else []
        for name in (path.name for path in found):
            if name == TIMESTAMP or is_versioned(name):
                yield name

    def remove_metadata(self, filename: str) -> None:
        """Remove a metadata file; see `Shelf.remove_metadata`.

        Raises:
            ValueError: it is a root, or the timestamp.
            StorageError: it can't be removed.
        """
        name = removable(metadata_name(filename, url=self.url))
        if (path := self.directory / "metadata" / name).parent.is_dir():
            remove_file(path)

    def restore_metadata(self, filename: str, data: bytes) -> None:
        """Put a versioned metadata file back; see `Shelf.restore_metadata`.

        Raises:
            ValueError: it is the timestamp.
            StorageError: it can't be written.
        """
        name = metadata_name(filename, url=self.url)
        if not is_versioned(name):
            raise ValueError(f"{name} is no versioned metadata file")
        path = self.directory / "metadata" / name
        make_directory(path.parent)
        write_file(path, data)

    def together(self) -> AbstractContextManager[None]:
        """Change nothing: each file is durable by itself."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: each call was durable when it returned."""

    def content(self) -> ContentStore:
        """Return the layout beside, made if it is not there.

        Raises:
            OciFormatError: the directory holds another kind of layout.
            StorageError: it can't be written.
        """
        if self._content is None:
            # Without it, the directory would be taken for a layout that holds all.
            make_directory(self.directory / "metadata")
            self._content = ContentStore.create(self.directory)
        return self._content

    def clean(self) -> None:
        """Remove what killed writers left; the caller holds the directory's lock.

        Raises:
            StorageError: a directory can't be listed or written.
        """
        for part in ("metadata", "targets", "blobs"):
            for directory, _, _ in os.walk(self.directory / part):
                clean_temporary(Path(directory))
        clean_temporary(self.directory)
