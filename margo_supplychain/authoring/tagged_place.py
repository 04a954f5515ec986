"""A trust repository in a registry or layout, edited there; nothing there is believed.

A registry has no lock, and a tag can be written by whoever may push. So names are
looked at before and after they are written, and one name decides: `timestamp`.

    1  content, attestations, then target files: named by digest, so nobody is in the
       way
    2  versioned metadata: a free name only, read back and compared (`TaggedSink`)
    3  `timestamp` still what the edit began from? else: somebody was faster
    4  write `timestamp`, read it back
    5  whoever published at this very moment is joined (`joining`)
    6  the same bytes under `<version>.timestamp`, which never moves (`witnesses`)
    7  look once more at what it names: what a racing publisher overwrote is put back

Who was slower puts back what it may have overwritten of the winner's, and raises
`ConflictError`: run again, it starts from the winner's state. Killed anywhere, it has
written names that no timestamp names, or all of it.
"""

from __future__ import annotations

import io
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.attested import is_kept, put_envelope
from margo_supplychain.authoring.mending import MendingSource
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.settings import Settings
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, load
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    InconclusiveError,
    SupplyChainError,
    TooLargeError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.tuf_metadata import file_name, parse_timestamp
from margo_supplychain.storage.lock import DirectoryLock
from margo_supplychain.transport.layout_sink import LayoutSink
from margo_supplychain.verify.clock import StoppedClock

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from contextlib import AbstractContextManager

    from tuf.api.metadata import MetaFile

    from margo_supplychain.authoring.content_targets import ContentTargets
    from margo_supplychain.authoring.place import Stored
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.transport.tagged_sink import TaggedSink

TIMESTAMP: Final = "timestamp.json"
MOST_TRIES: Final = 3  # to write the timestamp, where answers get lost
LOCK_TIMEOUT: Final = 60.0  # seconds; another publisher may be copying content


@final
class TaggedPlace:
    """A repository whose files are tagged manifests; implements `Place`.

    Args:
        shelf: where the trust metadata lies.
        content: where the content of releases goes.
    """

    is_own = False

    def __init__(self, shelf: TaggedSink, content: ContentTargets) -> None:
        self.shelf = shelf
        self.content = content
        self.source = MendingSource(shelf)

    @property
    def url(self) -> str:
        """The registry's or layout's URL."""
        return self.shelf.url

    def locked(self) -> AbstractContextManager[object]:
        """Keep others away from a layout; nobody would ask for a registry's lock."""
        shelf = self.shelf
        if isinstance(shelf, LayoutSink) and shelf.directory.is_dir():
            return DirectoryLock(shelf.directory, timeout=LOCK_TIMEOUT)
        return nullcontext()

    def first_root(self) -> None:
        """Return None: whoever serves a repository must not choose its keys."""

    def settings(self) -> Settings:
        """Return what holds without any; see `Place.settings`."""
        return Settings(profile="standard")

    def written(self, role: str, version: int) -> bytes | None:
        """Return what has a versioned name already; see `Place.written`."""
        limits = {"snapshot": LIMITS.snapshot, "timestamp": LIMITS.timestamp}
        limit = limits.get(role, LIMITS.targets)
        name = file_name(role, version)
        try:
            return self.shelf.metadata(name, limit=limit)
        except TooLargeError:
            return b""
        except FetchError as why:
            if why.missing:
                return None
            # Whoever may push could else bar the next version for ever.
            if self.shelf.is_damaged(name):
                return b""
            raise

    def located(self, release: Release) -> Release:
        """Return a release with the locations of its record; see `Place.located`."""
        return self.content.located(release)

    def lost(self, release: Release) -> tuple[Descriptor, ...]:
        """Return what the registry says it does not hold; see `Place.lost`."""
        return self.content.lost(release)

    def keeps(self, what: Descriptor) -> bool:
        """Say whether an attestation is there, and tagged; see `Place.keeps`."""
        return is_kept(self.shelf, what)

    def write(self, work: Work) -> Stored:
        """Write everything but the timestamp; see `Place.write`."""
        if isinstance(self.shelf, LayoutSink):
            self.shelf.clean()
        with self.shelf.together():
            stored = self.content.put(work)
            for what, envelope in work.staged.attestations.values():
                put_envelope(self.shelf, what, io.BytesIO(envelope))
            for path, (what, data) in work.staged.targets.items():
                self.shelf.put_target(path, what, io.BytesIO(data))
            self.write_metadata(work)
        return stored

    def write_metadata(self, work: Work) -> None:
        """Write the staged metadata; see `Place.write_metadata`."""
        for name, data in self.source.mended.items():
            self.shelf.restore_metadata(name, data)
        try:
            for name, data in work.staged.metadata.items():
                # It is read back and compared.
                self.shelf.put_metadata(name, data)
        except ConflictError:
            raise self._give_way(work) from None

    def commit(self, work: Work) -> None:
        """Write the timestamp, unless somebody was faster; see `Place.commit`."""
        # Empty: somebody has removed it.
        before, ours = work.before or None, work.staged.timestamp
        for again in reversed(range(MOST_TRIES)):
            # Also after a write without an answer: somebody may have come in between.
            if self._read(TIMESTAMP) != before:
                raise self._give_way(work)
            try:
                self.shelf.put_metadata(TIMESTAMP, ours)
            except ConflictError:
                raise self._give_way(work) from None
            except FetchError:
                # The answer may be what got lost, and not the timestamp.
                found = self._read(TIMESTAMP)
                if found == ours:
                    return
                if found == before and not again:
                    raise
            else:
                if self._read(TIMESTAMP) != ours:
                    raise self._give_way(work)
                return

    def versions(self, role: str) -> Sequence[int]:
        """Return the versions whose names are taken; see `Place.versions`."""
        return self.shelf.versions(role)

    def witness(self, work: Work) -> bool:
        """Write the timestamp under a name of its own; see `Place.witness`."""
        ours = work.staged.timestamp
        version = parse_timestamp(ours, limit=LIMITS.timestamp).version
        name = file_name("timestamp", version)
        try:
            self.shelf.put_metadata(name, ours)
        except ConflictError:
            there = self.written("timestamp", version)
            who = work.changes.require_who("timestamp")
            file = None if there is None else signed_by(there, who)
            if file is not None and file.version == version:
                return False
            # Whoever may push could else keep us from it for ever.
            self.shelf.restore_metadata(name, ours)
        return True

    def source_at(self, timestamp: bytes) -> Source:
        """Return the place as it was at a timestamp; see `Place.source_at`."""
        return MendingSource(Overlay(Staged(timestamp=timestamp), self.shelf))

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return what a snapshot's entry names; see `Place.named`."""
        mending = MendingSource(self.shelf)
        mending.expect({f"{role}.json": entry})
        name = file_name(role, entry.version)
        data = mending.metadata(name, limit=LIMITS.targets)
        if Digest.of(data).hex != (entry.hashes or {}).get("sha256"):
            raise FetchError(f"{self.url} has other bytes as {name}", url=self.url)
        return data

    def expect(self, meta: Mapping[str, MetaFile]) -> None:
        """Take note of what a new snapshot names; see `Place.expect`."""
        self.source.expect(meta)

    def settle(self, work: Work) -> None:
        """Put back what a racing publisher overwrote; see `Place.settle`."""
        try:
            for name, data in work.staged.metadata.items():
                if self._read(name, len(data)) != data:
                    self.shelf.restore_metadata(name, data)
        except InconclusiveError as why:
            # What is published is published: it must not be reported as a failure.
            work.warnings.append(
                f"published, and what a racing publisher may have written over it is "
                f"not looked for: {why}"
            )

    def _read(self, name: str, size: int = LIMITS.timestamp) -> bytes | None:
        try:
            return self.shelf.metadata(name, limit=max(size, 1))
        except TooLargeError:
            return None
        except FetchError as why:
            # Whoever may push could else stop us between a root and its timestamp.
            if why.missing or self.shelf.is_damaged(name):
                return None
            raise

    def _give_way(self, work: Work) -> ConflictError:
        """Put back what the winner's timestamp names and we may have overwritten.

        The bytes are still there under their digest. Only what verifies is put back; if
        it does not, this is no race, and the next edit will say what it is.
        """
        mending = MendingSource(self.shelf)
        try:
            load(
                mending,
                first_root=work.state.root.file.data,
                store=None,
                clock=StoppedClock(work.now),
            )
            for name in work.staged.metadata:
                if mending.names(name):
                    mending.metadata(name, limit=LIMITS.targets)
            for name, data in mending.mended.items():
                self.shelf.restore_metadata(name, data)
        except SupplyChainError as why:
            return self._conflict(f"timestamp is not what this began from: {why}")
        return self._conflict("somebody else published at the same time")

    def _conflict(self, what: str) -> ConflictError:
        return ConflictError(f"{self.url}: {what}")
