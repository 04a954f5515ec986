"""A trust repository in a directory: what any web server can serve.

Until `timestamp.json` is replaced, in one step, every device sees the old state. A run
that is killed leaves files that no metadata names, and versions that the next skips.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.attested import is_kept, put_envelope
from margo_supplychain.authoring.contents import is_whole
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.place import Stored
from margo_supplychain.authoring.settings import DIRECTORY, Settings, read_settings
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    FormatError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.storage.content_store import blob_path
from margo_supplychain.storage.durable import (
    clean_temporary,
    make_directory,
    read_file,
    remove_file,
    write_file,
)
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.directory import DirectorySink, DirectorySource
from margo_supplychain.verify.content_checks import check_stored

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source

LOCK_TIMEOUT: Final = 60.0  # seconds; another publisher may be copying content
FIRST_ROOT: Final = "1.root.json"
PREVIOUS: Final = "previous-timestamp.json"
"""The timestamp before the last edit, for `Repository.check`; signed, not trusted."""


@final
class DirectoryPlace:
    """A repository's directory; implements `Place`."""

    is_own = True

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.source = DirectorySource(directory)

    @property
    def url(self) -> str:
        """The directory's path."""
        return str(self.directory)

    @property
    def shelf(self) -> DirectorySink:
        """The directory; see `Place.shelf`."""
        return DirectorySink(self.directory)

    def locked(self) -> DirectoryLock:
        """Keep other publishers out; see `Place.locked`."""
        return DirectoryLock(self.directory, timeout=LOCK_TIMEOUT)

    def first_root(self) -> bytes:
        """Return `1.root.json`; see `Place.first_root`."""
        path = self.directory / "metadata" / FIRST_ROOT
        try:
            return read_file(path, limit=LIMITS.root)
        except FileNotFoundError as why:
            raise FormatError(
                f"{self.directory} holds no trust repository: there is no {path}",
                hint="make one with `margo-supplychain repo init`, or name another "
                "directory",
            ) from why

    def settings(self) -> Settings:
        """Return what the directory's settings file says; see `Place.settings`."""
        return read_settings(self.directory) or Settings(profile="standard")

    def written(self, role: str, version: int) -> bytes | None:
        """Say whether a versioned name was ever written; see `Place.written`."""
        path = self.directory / "metadata" / file_name(role, version)
        return b"" if os.path.lexists(path) else None

    def located(self, release: Release) -> Release:
        """Return the release as it is: its content is copied in here."""
        return release

    def lost(self, release: Release) -> tuple[Descriptor, ...]:
        """Return what is damaged or missing, by hashing all of it."""
        parts = (part.descriptor for part in release.parts())
        return tuple(what for what in parts if not is_whole(self.source, what))

    def keeps(self, what: Descriptor) -> bool:
        """Say whether an attestation is there, by hashing it; see `Place.keeps`."""
        return is_kept(self.shelf, what)

    def write(self, work: Work) -> Stored:
        """Write everything but the timestamp; see `Place.write`.

        New content that a device would refuse is taken away again.
        """
        staged = work.staged
        sink = DirectorySink(self.directory)
        store = sink.content()
        # What killed runs left, before it could be what fills the disk.
        store.clean()
        self._clean(staged)
        new: list[Descriptor] = []
        try:
            for what, opener in staged.blobs.values():
                is_new = not store.has(what)
                if not store.keep_intact(what):
                    new += [what] if is_new else []
                    with opener() as stream:
                        sink.put_blob(what, stream)
            for record, release in work.new:
                check_stored(record, store, limits=LIMITS, elsewhere=release.elsewhere)
        except SupplyChainError as why:
            for what in new:
                remove_file(blob_path(store.directory, what.digest))
            if isinstance(why, VerificationError):
                why.hint = (
                    "nothing was published: every device would refuse the release"
                )
            raise
        for what, data in staged.attestations.values():
            put_envelope(sink, what, io.BytesIO(data))
        for path, (what, data) in staged.targets.items():
            sink.put_target(path, what, io.BytesIO(data))
        self.write_metadata(work)
        return Stored(len(new), len(staged.blobs) - len(new))

    def _clean(self, staged: Staged) -> None:
        places = {self.directory / "metadata", self.directory / DIRECTORY}
        # Not all of targets/: that would cost what the repository holds.
        places.update(
            (self.directory / "targets" / path).parent for path in staged.targets
        )
        for place in places:
            if place.is_dir():
                clean_temporary(place)

    def previous(self) -> bytes | None:
        """Return the timestamp before the last edit; None if there was none."""
        path = self.directory / DIRECTORY / PREVIOUS
        try:
            return read_file(path, limit=LIMITS.timestamp)
        except FileNotFoundError:
            return None

    def write_metadata(self, work: Work) -> None:
        """Write the staged metadata; see `Place.write_metadata`."""
        if work.staged.timestamp and work.before:
            # Not in `commit`: between a new root and its timestamp, every write counts.
            make_directory(self.directory / DIRECTORY)
            write_file(self.directory / DIRECTORY / PREVIOUS, work.before)
        sink = DirectorySink(self.directory)
        for name, data in work.staged.metadata.items():
            sink.put_metadata(name, data)

    def commit(self, work: Work) -> None:
        """Replace `timestamp.json` in one step; see `Place.commit`."""
        sink = DirectorySink(self.directory)
        sink.put_metadata("timestamp.json", work.staged.timestamp)

    def versions(self, role: str) -> Sequence[int]:
        """Return nothing: whoever publishes here holds the lock."""
        del role
        return ()

    def witness(self, work: Work) -> bool:
        """Do nothing: what was replaced under the lock does not come back."""
        del work
        return True

    def source_at(self, timestamp: bytes) -> Source:
        """Return the directory with another timestamp; see `Place.source_at`."""
        return Overlay(Staged(timestamp=timestamp), self.source)

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return a metadata file; see `Place.named`."""
        return self.source.metadata(
            file_name(role, entry.version), limit=entry.length or LIMITS.targets
        )

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Do nothing: names are what they were written as."""

    def settle(self, work: Work) -> None:
        """Do nothing: nobody wrote at the same time."""
