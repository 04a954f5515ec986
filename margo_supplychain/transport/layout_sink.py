"""Writes a trust repository and content into an OCI image layout in a directory.

Example:
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as name:
    ...     sink = LayoutSink(pathlib.Path(name))
    ...     sink.put_metadata("1.root.json", b"{}")
    ...     sink.metadata("1.root.json", limit=100), list(sink.metadata_files())
    (b'{}', ['1.root.json'])
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO

from margo_supplychain.formats.oci import index_bytes
from margo_supplychain.storage.content_store import ContentStore, blob_path
from margo_supplychain.storage.durable import remove_file, write_file
from margo_supplychain.transport.layout_writing import WritableLayout
from margo_supplychain.transport.oci_layout import DirectoryLayout, Names
from margo_supplychain.transport.tagged_sink import TaggedSink

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor, Digest


class LayoutSink(TaggedSink):
    """Writes an OCI image layout; implements `Shelf`.

    Who makes several calls holds the directory's lock (`DirectoryLock`), and then may
    call `clean`.
    """

    def __init__(self, directory: Path) -> None:
        self._layout = _WritableDirectory(directory)
        super().__init__(self._layout)
        self.directory = directory

    def together(self) -> AbstractContextManager[None]:
        """List what is put inside once, at the end; see `Sink.together`."""
        return self._layout.together()

    def clean(self) -> None:
        """Remove what killed writers left; the caller holds the directory's lock.

        Raises:
            StorageError: a directory can't be listed or written.
        """
        if self.directory.is_dir():
            self._layout.content().clean()


class _WritableDirectory(WritableLayout, DirectoryLayout):
    """`index.json` is written anew each time, from what was read before."""

    def __init__(self, directory: Path) -> None:
        WritableLayout.__init__(self)
        DirectoryLayout.__init__(self, directory)
        self._content: ContentStore | None = None

    def content(self) -> ContentStore:
        """Return the layout, made if it is not there.

        Raises:
            OciFormatError: another kind of layout is there.
            StorageError: it can't be written.
        """
        if self._content is None:
            self._content = ContentStore.create(self.directory)
        return self._content

    def listed(self) -> Names:
        """Return what is listed; nothing where nothing was written yet."""
        if not os.path.lexists(self.directory / "index.json"):
            return Names()
        return DirectoryLayout.names(self)

    def holds(self, what: Descriptor) -> bool:
        """Tell whether content is stored with this size."""
        return ContentStore(self.directory).has(what)

    def store(self, what: Descriptor, data: BinaryIO) -> bool:
        """Store content unless it is there and right."""
        content = self.content()
        if content.keep_intact(what):
            return False
        content.put(what, data)
        return True

    def write(self, names: Names) -> None:
        """Write `index.json`."""
        # If that fails, what is on disk counts.
        self.forget()
        write_file(self.directory / "index.json", index_bytes(names))
        self.remember(names)

    def remove(self, digest: Digest) -> None:
        """Remove content."""
        remove_file(blob_path(self.directory, digest))
