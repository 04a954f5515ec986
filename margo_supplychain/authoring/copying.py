"""Copying releases with all trust metadata from one place to another, and verified.

The source is read as a device would read it, from a root or memory that the caller
trusts; the target is written so that a device sees its old state or the new one and
nothing between: content, then target files, roles, snapshot, roots, and `timestamp`
last. Only what is missing is copied, so a run that was killed is simply run again.

Trust metadata is always whole: every root, role, policy and record. Content can be
narrowed by name and version; that of withdrawn releases is left out, for no device
takes it. A target that shows a newer state than the source is never put back.

What one release's record says can't stop the others: content that is nowhere, is other
bytes or can't have its name leaves this release incomplete, which is counted and said.

Example:
    >>> from margo_supplychain.authoring.shelves import open_shelf
    >>> with open_shelf("mirror") as shelf:
    ...     done = copy_releases(source, shelf, trust=store)
    >>> done.timestamp, done.releases, done.blobs_new
    (2, 1, 3)
"""

from __future__ import annotations

import io
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import TYPE_CHECKING, Final, final

from margo_supplychain.authoring.attested import named_envelopes
from margo_supplychain.authoring.closures import Copier, Routes, place_of
from margo_supplychain.authoring.overlay import Nowhere, Overlay, Staged
from margo_supplychain.authoring.placement import Placement
from margo_supplychain.authoring.selection import (
    EVERYTHING,
    choose,
    names_of,
    publishers_of,
    record_of,
)
from margo_supplychain.authoring.state import LIMITS, AuthorWalk, no_copies
from margo_supplychain.authoring.survey import survey
from margo_supplychain.authoring.vandalised import (
    Legible,
    free_next_root,
    is_vandalised,
)
from margo_supplychain.errors import (
    ConflictError,
    ExpiredError,
    FetchError,
    FormatError,
    MalformedError,
    RefusedError,
    RollbackError,
    StorageError,
    TooLargeError,
    VerificationError,
)
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.locations import TIMESTAMP
from margo_supplychain.transport.tagged_sink import TaggedSink
from margo_supplychain.verify.clock import StoppedClock, SystemClock
from margo_supplychain.verify.limits import Budget, Control
from margo_supplychain.verify.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from margo_supplychain.authoring.placement import Mirrored, Spot
    from margo_supplychain.authoring.selection import Chosen, Selection
    from margo_supplychain.authoring.survey import Listed, Survey
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.transport.protocols import ContentSources, Sink, Source
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore

LONG: Final = Control(deadline=timedelta(days=7))
"""What a copy may cost by default: over a slow line to a plant it takes days."""
MOST_SILENT: Final = 8
"""Hosts that may let a copy wait in vain for one application."""
_TOP_LEVEL: Final[tuple[str, ...]] = ("timestamp", "snapshot", "targets")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What a copy did.

    Args:
        root, snapshot, timestamp: versions that the target now shows.
        fresh_until: when the timestamp expires, there as everywhere.
        listed: how many releases the metadata names.
        releases: of how many of them the content is there.
        incomplete: those of which it is not, though it was asked for, and applications
            of which nothing could be chosen; warnings say why.
        withdrawn: how many are left out because no device takes them any more.
        images: how many container images the copied releases name: no copy has them.
        files_new, files_there: metadata and target files that were copied, and that
            lay there already.
        blobs_new, blobs_there: content and attestations, likewise.
        size: bytes of new content.
        mirrors: what devices must be told, see `Placement`.
        warnings: what devices would refuse, one line each.
    """

    root: int
    snapshot: int
    timestamp: int
    fresh_until: datetime
    listed: int
    releases: int
    incomplete: tuple[str, ...]
    withdrawn: int
    images: int
    files_new: int
    files_there: int
    blobs_new: int
    blobs_there: int
    size: int
    mirrors: Mapping[str, tuple[str, ...]]
    warnings: tuple[str, ...]

    @property
    def changed(self) -> bool:
        """Whether anything was missing."""
        return self.files_new > 0 or self.blobs_new > 0


def copy_releases(
    source: Source,
    target: Sink,
    *,
    trust: TrustStore,
    content: ContentSources | None = None,
    select: Selection = EVERYTHING,
    open_repository: Callable[[str], Sink] | None = None,
    mirrored: Mirrored | None = None,
    clock: Clock | None = None,
    control: Control = LONG,
) -> Copied:
    """Copy a repository; the caller holds the target's lock, if it has one.

    Args:
        source: unverified; content that lies beside its metadata is taken from there.
        target: where it goes.
        trust: the root that the source is believed from, and what was seen before;
            takes in what the source shows now.
        content: where else content lies, by the record's locations.
        select: whose content is copied.
        open_repository: opens `oci://…` for content, if the target is in a registry.
        mirrored: see `Placement`.
        clock: the machine's by default.
        control: budget, progress and cancelling of the whole copy.

    Raises:
        ExpiredError, VerificationError: the source is not what devices accept; what is
            copied by then does no harm.
        RollbackError: the target shows a newer state.
        ConflictError: the target has other bytes under a versioned name, or somebody
            else writes there.
        FetchError, StorageError: metadata is missing, or one of the two places can't
            be reached or written; run it again.
    """
    if source.url.rstrip("/") == target.url.rstrip("/"):
        raise RefusedError(f"{source.url} is the place that it shall be copied to")
    now = (clock or SystemClock()).now().astimezone(UTC).replace(microsecond=0)
    placement = Placement(source.url, target.url, mirrored=mirrored)
    budget = Budget(control)
    with Copier(budget) as copier:
        # In a registry most content has repositories of its own.
        is_far = source.url.startswith(SCHEME)
        contents = Routes(
            copier,
            target,
            near=() if is_far else (source,),
            far=(source,) if is_far else (),
            content=content,
            open_repository=open_repository,
        )
        copy = _Copy(source, target, contents, placement, budget)
        try:
            found = copy.survey(trust, StoppedClock(now))
            return copy.run(found, select, StoppedClock(now))
        finally:
            contents.close()


@final
class _Copy:
    """One copy, in the order that keeps every device on one whole state."""

    def __init__(
        self,
        source: Source,
        target: Sink,
        contents: Routes,
        placement: Placement,
        budget: Budget,
    ) -> None:
        self._source = source
        self._target = target
        self._contents = contents
        self._placement = placement
        self._budget = budget
        self._new = 0
        self._there = 0
        self._incomplete: list[str] = []
        self._images: set[str] = set()
        self._seen: set[Digest] = set()
        # How many hosts that did not answer each application's records named.
        self._silent: Counter[ReleaseName] = Counter()

    def survey(self, trust: TrustStore, clock: Clock) -> Survey:
        """Verify the source, and remember what it showed."""
        try:
            found = survey(self._source, trust=trust, clock=clock)
        except ExpiredError as why:
            why.hint = (
                "a copy is made only of what devices accept today; sign it again at "
                "its origin (`repo refresh`), or ask the publisher. Nothing was copied"
            )
            raise
        workflow = found.walk.workflow
        accepted = found.walk.accepted
        files = {role: accepted[role] for role in _TOP_LEVEL if role in accepted}
        try:
            trust.keep(found.before, workflow.complete(), files, {})
        except ConflictError:
            # Somebody verified with the same memory just now, which never falls.
            pass
        except StorageError as why:
            found.warnings.append(f"what {self._source.url} shows is copied, and {why}")
        return found

    def run(self, found: Survey, select: Selection, clock: Clock) -> Copied:
        """Copy what is missing."""
        begun = self._shown()
        self._require_not_older(found, clock)
        problem = free_next_root(self._target, found.walk.workflow.root.version)
        if problem is not None:
            found.warnings.append(problem)
        chosen = choose(found, select)
        self._placement.protect(names_of(found))
        if len(publishers_of(found)) == 1:
            self._placement.infer_vendor()
        listed = 0
        with self._target.together():
            for one in found.targets():
                listed += one.path.split("/")[1:2] == ["releases"]
                self._copy_target(found, one, chosen.get(one.path))
        with self._target.together():
            for name, data in found.roles.items():
                self._put(name, data)
            self._put(found.snapshot_file, found.snapshot.file.data)
            for name, data in found.roots.items():
                self._put(name, data)
        self._commit(found.timestamp.file.data, begun)
        counts = self._contents.counts
        return Copied(
            root=found.walk.workflow.root.version,
            snapshot=found.snapshot.version,
            timestamp=found.timestamp.version,
            fresh_until=found.timestamp.file.expires,
            listed=listed,
            releases=len(chosen) - len(self._incomplete),
            incomplete=(*found.lost, *self._incomplete),
            withdrawn=len(found.withdrawn),
            images=len(self._images),
            files_new=self._new,
            files_there=self._there,
            blobs_new=counts.new,
            blobs_there=counts.there,
            size=counts.size,
            mirrors=self._placement.mirrors,
            warnings=tuple(found.warnings),
        )

    # --- the target's own state ------------------------------------------------------

    def _shown(self) -> bytes | None:
        """Return the target's timestamp as it is; None if there is none."""
        try:
            return self._target.metadata(
                TIMESTAMP, limit=LIMITS.timestamp, tick=self._look
            )
        except TooLargeError:
            return b""  # whatever that is, no device takes it
        except FetchError as why:
            if why.missing:
                return None
            if is_vandalised(self._target, TIMESTAMP):
                return b""
            raise

    def _require_not_older(self, found: Survey, clock: Clock) -> None:
        """Let a device that holds the target's state judge what is about to come."""
        memory = self._memory_of_target(found, clock)
        root = found.walk.workflow.root.version
        before = AuthorWalk(memory, no_copies, Nowhere(self._target.url), clock=clock)
        trusted = before.workflow.root.version
        hint = (
            f"{self._target.url} shows a newer state or another one than "
            f"{self._source.url}; nothing was copied. Is the source an old copy?"
        )
        if trusted > root:
            raise RollbackError(
                f"root v{root} is older than v{trusted} of {self._target.url}",
                role="root",
                trusted=trusted,
                offered=root,
                hint=hint,
            )
        staged = Staged(
            metadata={
                **found.roots,
                **found.roles,
                found.snapshot_file: found.snapshot.file.data,
            },
            timestamp=found.timestamp.file.data,
        )
        overlay = Overlay(staged, Nowhere(self._source.url))
        try:
            AuthorWalk(memory, no_copies, overlay, clock=clock).top_level()
        except VerificationError as why:
            why.hint = hint
            raise

    def _memory_of_target(self, found: Survey, clock: Clock) -> Memory:
        """Return the floors of a device that follows the target.

        What is missing or broken there is no floor for anybody.
        """
        memory = Memory(root=found.before.root, publishers=None)
        walk = AuthorWalk(memory, no_copies, Legible(self._target), clock=clock)
        try:
            walk.top_level()
        except FetchError as why:
            if not why.missing:
                raise
        except VerificationError:
            pass
        return walk.workflow.memory

    # --- files -----------------------------------------------------------------------

    def _copy_target(
        self, found: Survey, listed: Listed, release: Chosen | None
    ) -> None:
        self._budget.check()
        known = found.walk.accepted_targets.get(listed.what.digest.hex)
        there = self._target_there(listed)
        try:
            data = there or known or self._target_at(self._source, listed)
        except (FetchError, VerificationError) as why:
            # Whoever may sign a role may list what is nowhere.
            if listed.role in _TOP_LEVEL or self._is_over(why):
                raise
            self._leave_out(found, release, listed.path, why)
            return
        if release is not None:
            self._copy_content(found, release, data)
        is_file = isinstance(self._target, DirectorySource)
        # Where files lie by their digest, two paths may be one file.
        if is_file or listed.what.digest not in self._seen:
            self._count(is_new=there is None)
        self._seen.add(listed.what.digest)
        # Under tags also when it is there: a killed run may have left it without one,
        # and a registry clears that away.
        if there is None or not is_file:
            self._target.put_target(listed.path, listed.what, io.BytesIO(data))

    def _target_there(self, listed: Listed) -> bytes | None:
        """Return a target file's exact bytes if the target has them."""
        try:
            return self._target_at(self._target, listed)
        except FetchError as why:
            if not why.missing:
                raise
        except VerificationError:
            pass
        return None

    def _target_at(self, place: Source, listed: Listed) -> bytes:
        with place.target(listed.path, listed.what, tick=self._look) as stream:
            return read_exact(listed.what, stream, subject=listed.path, tick=self._look)

    def _copy_content(self, found: Survey, release: Chosen, data: bytes) -> None:
        name, path = release.name, release.candidate.path
        try:
            record = record_of(found, release, data)
        except MalformedError as why:
            found.warnings.append(f"devices refuse {name}: {why}")
            return
        self._images |= {str(one.digest or one.reference) for one in record.images}
        if self._silent[name] > MOST_SILENT:
            silent = f"{self._silent[name]} hosts that its records name do not answer"
            self._leave_out(found, release, path, silent)
            return
        before = self._contents.silent
        try:
            for spot in self._placement.spots(record):
                self._copy_spot(
                    found, spot, path, is_package=spot.what == record.artifact
                )
            for what in named_envelopes(record, release.candidate.entry):
                self._contents.copy_envelope(what)
        except (FetchError, FormatError, RefusedError, VerificationError) as why:
            if self._is_over(why):
                raise
            self._leave_out(found, release, path, why)
        finally:
            self._silent[name] += self._contents.silent - before

    def _copy_spot(
        self, found: Survey, spot: Spot, path: str, *, is_package: bool
    ) -> None:
        try:
            self._contents.copy(spot)
        except (ConflictError, RefusedError) as why:
            # Devices go by digest. Who owns a component may well move its revision.
            if is_package or isinstance(why, RefusedError):
                found.warnings.append(f"{path} can't have its name: {why}")
            self._contents.copy(spot.beside())

    def _is_over(self, why: SupplyChainError) -> bool:
        """Say whether nothing more can be copied: one of the two places is gone."""
        if not isinstance(why, FetchError) or not why.unreachable:
            return False
        ours = {place_of(one.url) for one in (self._source, self._target)}
        return place_of(why.url) in ours

    def _leave_out(
        self,
        found: Survey,
        release: Chosen | None,
        path: str,
        why: SupplyChainError | str,
    ) -> None:
        found.warnings.append(f"{path} is not copied whole: {why}")
        if release is not None:
            self._incomplete.append(path)

    def _put(self, name: str, data: bytes) -> None:
        there: bytes | None = None
        try:
            there = self._target.metadata(name, limit=len(data), tick=self._look)
        except TooLargeError:
            pass  # other bytes: the target will say so
        except FetchError as why:
            if not why.missing and not is_vandalised(self._target, name):
                raise
        self._count(is_new=there != data)
        if there != data:
            try:
                self._target.put_metadata(name, data)
            except ConflictError as why:
                if is_vandalised(self._target, name):
                    self._restore(name, data)
                    return
                why.hint = (
                    f"{self._target.url} holds another repository, or somebody wrote "
                    "there: name another place, or look with `repo check`"
                )
                raise

    def _restore(self, name: str, data: bytes) -> None:
        """Write over what has a name of metadata, and is none."""
        if isinstance(self._target, TaggedSink):
            self._target.restore_metadata(name, data)

    def _commit(self, data: bytes, begun: bytes | None) -> None:
        """Write the timestamp, unless somebody else was here in the meantime."""
        shown = self._shown()
        if shown != begun:
            raise ConflictError(
                f"{self._target.url} shows another timestamp than when this began"
            )
        self._count(is_new=shown != data)
        if shown == data:
            return
        self._target.put_metadata(TIMESTAMP, data)
        if self._shown() != data:
            raise ConflictError(
                f"{self._target.url} shows another timestamp than was written there"
            )

    def _count(self, *, is_new: bool) -> None:
        self._new += is_new
        self._there += not is_new

    def _look(self, size: int) -> None:
        del size
        self._budget.check()
