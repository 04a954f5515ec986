"""Content that was fetched to be looked at before anybody signs it.

An OCI image layout in a temporary directory: every byte in it was checked against its
digest, and what is looked at is what was checked. It goes with its last user.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, final

from margo_supplychain.authoring.contents import read_checked
from margo_supplychain.formats.closure import walk
from margo_supplychain.storage.content_store import ContentStore
from margo_supplychain.storage.durable import storage_errors
from margo_supplychain.transport.directory import DirectorySource

if TYPE_CHECKING:
    from margo_supplychain.authoring.place import Progress
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source


@final
class FetchedContent(DirectorySource):
    """A source of what was fetched; `TMPDIR` says on which disk.

    Raises:
        StorageError: no directory can be made.
    """

    def __init__(self) -> None:
        with storage_errors(Path(tempfile.gettempdir()), "write"):
            directory = tempfile.mkdtemp(prefix="margo-supplychain-")
        weakref.finalize(self, shutil.rmtree, directory, ignore_errors=True)
        super().__init__(Path(directory))
        self.store = ContentStore.create(self.directory)

    def fetch(
        self,
        source: Source,
        top: Descriptor,
        *,
        shown: str,
        progress: Progress | None = None,
    ) -> None:
        """Fetch a manifest and all that it names, each byte checked.

        Raises:
            OciFormatError: not a manifest or index, or beyond a limit of closures.
            FetchError: a part is missing.
            DigestMismatchError, LengthMismatchError: a part is other bytes.
            StorageError: the disk is full, and the like.
        """
        parts = list(walk(top, lambda what: read_checked(source, what)))
        total = sum(part.descriptor.size for part in parts)
        done = 0

        def tick(size: int) -> None:
            nonlocal done
            done += size
            if progress is not None:
                progress(shown, done, total)

        for part in parts:
            what = part.descriptor
            if self.store.has(what):
                tick(what.size)
                continue
            with source.blob(what) as stream:
                self.store.put(what, stream, tick=tick)
