"""Putting back what a place lost: the repair behind `repo check --repair`.

What signed metadata names is brought back byte for byte, from the place's own blobs or
from other copies, verified by digest. The state stays the one that the place's own
timestamp names: a repair publishes nothing and signs nothing. Without a timestamp that
verifies there is nothing to go by, and the place is copied anew instead.

Example:
    >>> from margo_supplychain.authoring.copying import copy_releases
    >>> from margo_supplychain.authoring.shelves import open_shelf
    >>> with open_shelf("mirror") as shelf:
    ...     done = copy_releases(source, shelf, trust=store)
    ...     Path("mirror/metadata/1.targets.json").unlink()
    ...     repair(shelf, [source], trust=store).restored
    ('1.targets.json',)
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, final

from margo_supplychain.authoring.attested import named_envelopes
from margo_supplychain.authoring.closures import Copier, Routes
from margo_supplychain.authoring.copying import LONG
from margo_supplychain.authoring.patchwork import Patchwork
from margo_supplychain.authoring.place_checks import has_tag, root_version
from margo_supplychain.authoring.placement import Placement
from margo_supplychain.authoring.selection import (
    EVERYTHING,
    choose,
    names_of,
    publishers_of,
    record_of,
)
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.survey import survey
from margo_supplychain.authoring.vandalised import Legible, free_next_root
from margo_supplychain.errors import (
    BudgetError,
    ConflictError,
    FetchError,
    FormatError,
    MalformedError,
    RefusedError,
    ThresholdError,
    VerificationError,
)
from margo_supplychain.formats.references import SCHEME
from margo_supplychain.formats.registry_form import target_tag
from margo_supplychain.formats.tuf_metadata import file_name, parse_root
from margo_supplychain.storage.receive import read_exact
from margo_supplychain.verify.clock import StoppedClock, SystemClock
from margo_supplychain.verify.limits import Budget

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from margo_supplychain.authoring.placement import Mirrored, Spot
    from margo_supplychain.authoring.selection import Chosen, Selection
    from margo_supplychain.authoring.survey import Listed, Survey
    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.transport.protocols import (
        ContentSources,
        Shelf,
        Sink,
        Source,
    )
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.limits import Control
    from margo_supplychain.verify.trust_store import TrustStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Repaired:
    """What a repair did.

    Args:
        restored: file names, target paths and digests that are there again.
        warnings: what could not be put back, one line each.
    """

    restored: tuple[str, ...]
    warnings: tuple[str, ...]


def repair(
    shelf: Shelf,
    others: Sequence[Source],
    *,
    trust: TrustStore,
    content: ContentSources | None = None,
    select: Selection = EVERYTHING,
    open_repository: Callable[[str], Sink] | None = None,
    mirrored: Mirrored | None = None,
    clock: Clock | None = None,
    control: Control = LONG,
) -> Repaired:
    """Put back what a place lost; the caller holds its lock, if it has one.

    Args:
        shelf: the damaged place.
        others: who may have what it lost, best first.
        trust: the root or memory by which its state is verified.
        content: opens where else content lies: as records say, and in the repositories
            beside those of `others` that are in a registry.
        select: whose content is put back.
        open_repository: opens `oci://…` for content.
        mirrored: see `Placement`.
        clock: the machine's by default; what has expired is repaired all the same.
        control: budget and progress.

    Raises:
        VerificationError: the place's timestamp does not verify, or what it names is
            gone from everywhere.
        FetchError: likewise, or somebody can't be reached.
    """
    now = (clock or SystemClock()).now().astimezone(UTC).replace(microsecond=0)
    budget = Budget(control)
    found = _survey(shelf, others, trust, StoppedClock(now), budget)
    placement = Placement(shelf.url, shelf.url, mirrored=mirrored)
    for one in others:
        placement.knows(one.url)
    # What another registry has, it has where a copy to it would have put it.
    copies = [
        Placement(shelf.url, one.url, mirrored=mirrored)
        for one in others
        if one.url.startswith(SCHEME)
    ]
    if len(publishers_of(found)) == 1:
        for each in (placement, *copies):
            each.infer_vendor()
    names = names_of(found)
    for each in (placement, *copies):
        each.protect(names)
    with Copier(budget, rehash=True) as copier:
        routes = Routes(
            copier,
            shelf,
            near=others,
            content=content,
            open_repository=open_repository,
        )
        work = _Repair(shelf, others, routes, placement, copies)
        try:
            work.run(found, select)
        finally:
            routes.close()
    return Repaired(
        restored=(*work.restored, *copier.counts.names),
        warnings=tuple(dict.fromkeys((*found.warnings, *work.warnings))),
    )


def _survey(
    shelf: Shelf,
    others: Sequence[Source],
    trust: TrustStore,
    clock: Clock,
    budget: Budget,
) -> Survey:
    """Read the place as it should be, with no more roots than its state needs.

    A newer root of another copy could make the place's timestamp invalid; a root that
    the place lost is needed as soon as its timestamp does not verify without it.
    """
    root = trust.load().root
    known = parse_root(root, limit=len(root)).version
    listed = [root_version(name) for name in shelf.metadata_files()]
    place = Legible(shelf)
    newest = max([known, *listed])
    for _ in range(LIMITS.root_rotations):
        budget.check()
        source = Patchwork(place, others, trusted=root, newest_root=newest)
        try:
            return survey(source, trust=trust, clock=clock, unexpired=False)
        except ThresholdError as why:
            following = _next_root(place, others, root, newest)
            if why.role != "timestamp" or following is None:
                raise
            newest = following
    raise BudgetError(
        f"{shelf.url} lost more than {LIMITS.root_rotations} roots",
        hint="copy it anew: `repo push` or `repo mirror`",
    )


def _next_root(
    place: Source, others: Sequence[Source], root: bytes, newest: int
) -> int | None:
    """Return the version after the last root that continues the chain, if one does.

    Whatever else somebody offers is none: he could offer it without end.
    """
    source = Patchwork(place, others, trusted=root, newest_root=newest + 1)
    version = parse_root(root, limit=len(root)).version
    last = min(newest, version + LIMITS.root_rotations) + 1
    while version < last:
        try:
            source.metadata(file_name("root", version + 1), limit=LIMITS.root)
        except (FetchError, VerificationError, FormatError):
            break
        version += 1
    return version if version > newest else None


@final
class _Repair:
    def __init__(
        self,
        shelf: Shelf,
        others: Sequence[Source],
        routes: Routes,
        placement: Placement,
        copies: Sequence[Placement],
    ) -> None:
        self._shelf = shelf
        self._all = (shelf, *others)
        self._routes = routes
        self._placement = placement
        self._copies = copies
        self.restored: list[str] = []
        self.warnings: list[str] = []

    def run(self, found: Survey, select: Selection) -> None:
        """Put everything back, in the order in which it is copied."""
        chosen = choose(found, select)
        problem = free_next_root(self._shelf, found.walk.workflow.root.version)
        if problem is not None:
            self.warnings.append(problem)
        with self._shelf.together():
            for one in found.targets():
                data = self._target(one)
                release = chosen.get(one.path)
                if data is not None and release is not None:
                    self._content(found, release, data)
        with self._shelf.together():
            for name, data in found.roles.items():
                self._metadata(name, data)
            self._metadata(found.snapshot_file, found.snapshot.file.data)
            for name, data in found.roots.items():
                self._metadata(name, data)

    def _target(self, listed: Listed) -> bytes | None:
        """Put a target file back if need be; return its bytes if anybody has them."""
        for place in self._all:
            try:
                with place.target(listed.path, listed.what) as stream:
                    data = read_exact(listed.what, stream, subject=listed.path)
            except (FetchError, VerificationError):
                continue
            # Its bytes may be there, and the tag that keeps them gone.
            tag = target_tag(listed.what.digest)
            if place is not self._shelf or not has_tag(self._shelf, tag, listed.what):
                self._put_target(listed, data)
            return data
        self.warnings.append(f"nobody has {listed.path}")
        return None

    def _put_target(self, listed: Listed, data: bytes) -> None:
        try:
            self._shelf.put_target(listed.path, listed.what, io.BytesIO(data))
        except ConflictError as why:
            self.warnings.append(str(why))
        else:
            self.restored.append(listed.path)

    def _content(self, found: Survey, release: Chosen, data: bytes) -> None:
        try:
            record = record_of(found, release, data)
        except MalformedError as why:
            self.warnings.append(f"devices refuse {release.name}: {why}")
            return
        places = [self._placement, *self._copies]
        for spot, *copied in zip(*(one.spots(record) for one in places), strict=True):
            known = [one.repository for one in copied if one.repository is not None]
            if self._is_put_here(record, spot, known):
                self._put_back(spot._replace(locations=(*known, *spot.locations)))
        for what in named_envelopes(record, release.candidate.entry):
            try:
                self._routes.copy_envelope(what)
            except (ConflictError, FetchError, VerificationError) as why:
                self.warnings.append(f"attestation {what.digest.short}: {why}")

    def _is_put_here(
        self, record: ReleaseRecord, spot: Spot, known: Sequence[str]
    ) -> bool:
        if self._placement.is_foreign(record, spot):
            return False
        if self._is_with_another(spot):
            return False
        if self._shelf.url.startswith(SCHEME) or spot.what == record.artifact:
            return True
        # Beside files a component may be left to its own repository.
        others = (*self._all, *self._routes.elsewhere(known))
        return any(_has(place, spot.what) for place in others)

    def _is_with_another(self, spot: Spot) -> bool:
        """Say whether a spot lies where another application does: that is as good."""
        if spot.repository is not None or spot.home in {None, self._shelf.url}:
            return False
        return self._placement.is_ours(spot.home) and any(
            _has(place, spot.what) for place in self._routes.elsewhere([spot.home])
        )

    def _put_back(self, spot: Spot) -> None:
        try:
            try:
                self._routes.copy(spot)
            except (ConflictError, RefusedError) as why:
                # Tags never move, and devices go by digest.
                self.warnings.append(str(why))
                self._routes.copy(spot.beside())
        except (FetchError, FormatError, RefusedError, VerificationError) as why:
            self.warnings.append(str(why))

    def _metadata(self, name: str, data: bytes) -> None:
        try:
            there = self._shelf.metadata(name, limit=len(data)) == data
        except FetchError as why:
            if why.unreachable:
                raise
            there = False
        if not there:
            self._shelf.restore_metadata(name, data)
            self.restored.append(name)


def _has(place: Source, what: Descriptor) -> bool:
    try:
        with place.blob(what):
            return True
    except FetchError:
        return False
