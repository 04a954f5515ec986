"""Several publishers wrote at the same moment, or apart: one snapshot has all of it.

A registry can't compare and swap. Between our last look at `timestamp` and the write of
it, another publisher may have written it too, and been told that all is done. But each
writes a snapshot before the last look at `timestamp`. So if both looked and saw the old
one, then whoever wrote last finds the other's snapshot afterwards, under the name of
the own one or above it; if it is below, the other finds ours. And each writes a witness
(`witnesses`) before he looks for those of others, so whatever the registry showed in
between, one finds the other's.

What is found there, verifies, was signed about when ours was and was made from what
ours was made from (`x-after`), is joined: a snapshot with the newer file of each role,
and the next timestamp. Where both changed one role, the other's stays and ours is not
published: run again, it starts from there. So it is where both together are nothing
that devices accept. What was made from something older is left alone: its publisher
will find that somebody was faster. Each is judged alone, so that nobody who plants one
that does not verify keeps an honest one out.
"""

from __future__ import annotations

from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple, final

from margo_supplychain.authoring.lineage import Lineage, goes_back
from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.rehearsal import rehearse_edit
from margo_supplychain.authoring.role_signing import RoleSigning, meta_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.authoring.uniting import Rival, Union
from margo_supplychain.authoring.witnesses import Keys, bounded, witnesses
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    FormatError,
    IncompleteError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.tuf_metadata import (
    parse_snapshot,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from tuf.api.metadata import Snapshot

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.verify.refresh import Walk

MOST_JOINS: Final = 3
# Signatures come before content, which may be a day on its way.
AT_ONCE: Final = timedelta(days=1)
_UNJOINED: Final = (
    VerificationError,
    FetchError,
    FormatError,
    RefusedError,
    IncompleteError,
)


class Joined(NamedTuple):
    """How an edit stands after its timestamp was written.

    Args:
        walk: what a device with the previous state accepted last.
        roles: version and expiry of roles that were signed again.
        lost: roles that another publisher changed, too; his change stands.
    """

    walk: Walk
    roles: Mapping[str, tuple[int, datetime]] = MappingProxyType({})
    lost: frozenset[str] = frozenset()


def join_rivals(work: Work, walk: Walk) -> Joined:
    """Join what others published at the very moment when this edit did.

    Ends when a witness of the timestamp stands, and no other is found that it has not
    in it.

    Args:
        work: the edit, which is written.
        walk: what a device accepted of it.

    Raises:
        ConflictError: somebody else published again meanwhile, keeps doing so, or
            published what can't be joined.
        StorageError, FetchError: something can't be written, or read.
    """
    if work.place.is_own:
        return Joined(walk)  # it has a lock
    joining = Joining(work, walk)
    is_witnessed = False
    work.before = work.staged.timestamp
    for _ in range(MOST_JOINS * 2 + 1):
        rivals = joining.rivals()
        if rivals and joining.join(rivals):
            is_witnessed = False
        elif is_witnessed:
            return joining.joined
        elif work.place.witness(work):
            is_witnessed = True
            continue
        else:
            # Another timestamp of this version, of the same snapshot or one in it.
            joining.stamp()
        work.place.write_metadata(work)
        work.place.commit(work)
        work.before = work.staged.timestamp
    raise ConflictError(f"{work.place.url}: others publish again and again")


@final
class Joining:
    """Joins rivals to an edit, one after the other.

    Args:
        work: the edit; what it staged is what it says next.
        walk: what a device accepted of it so far.
        firm: names that the edit's own snapshot has from somebody who was told that
            they are published.
    """

    def __init__(
        self, work: Work, walk: Walk, *, firm: frozenset[str] = frozenset()
    ) -> None:
        self.joined = Joined(walk)
        self._work = work
        self._firm = firm
        self._refused: set[tuple[str, int]] = set()
        base = work.state.snapshot.file
        self._lineage = Lineage(work.place, [base])
        self._keys = Keys(
            work.changes.require_who("timestamp"), work.changes.require_who("snapshot")
        )

    def rivals(self) -> list[Rival]:
        """Return the verified snapshots of those who began where we did, or later.

        Those that their publishers were told of come last: what comes last stays.
        """
        ours = own(self._work)
        found = {
            one.sha256: Rival(one)
            for one in self._snapshots(ours)
            if not self._lineage.contains(ours, one)
        }
        above = self._work.last_version("timestamp")
        for one in witnesses(self._work.place, self._keys, above=above):
            self._work.seen = max(self._work.seen, one.timestamp.version)
            if not self._lineage.contains(ours, one.snapshot):
                found.pop(one.snapshot.sha256, None)
                found[one.snapshot.sha256] = Rival(one.snapshot, one.timestamp.version)
        return [one for one in found.values() if one.key not in self._refused]

    def _snapshots(self, ours: RoleFile[Snapshot]) -> Iterator[RoleFile[Snapshot]]:
        work = self._work
        if work.snapshot is None:
            return  # without the key of snapshot nothing could be joined
        listed = work.place.versions("snapshot")
        above = [one for one in listed if one >= ours.version]
        base = work.state.snapshot
        for version, data in reversed(list(bounded(work.place, "snapshot", above))):
            one = signed_by(data, self._keys.snapshot)
            if (
                one is not None
                and one.version == version
                and abs(one.expires - self._expected()) <= AT_ONCE
                and self._lineage.contains(one, base.file, strictly=True)
                and not goes_back(base.signed.meta, one.signed.meta)
            ):
                yield one

    def _expected(self) -> datetime:
        # Not the expiry of ours, which may be of one that was taken as it was.
        work = self._work
        return work.signed_at + work.settings.period("snapshot")

    def join(self, rivals: list[Rival]) -> bool:
        """Join those that verify; say whether there is something new to write.

        Raises:
            ConflictError: one that was published can't be joined.
        """
        staged = self._work.staged
        written, is_joined = staged.metadata, False
        staged.metadata = {}
        for one in rivals:
            begun = dict(staged.metadata), staged.timestamp, self._work.snapshot
            try:
                is_joined = self._join(one) or is_joined
            except _UNJOINED as why:
                staged.metadata, staged.timestamp, self._work.snapshot = begun
                self._refuse(one, str(why))
        if not is_joined:
            staged.metadata = written
        return is_joined

    def stamp(self) -> None:
        """Sign a timestamp above all that are known, for the same snapshot."""
        signing = RoleSigning(self._work)
        ours = own(self._work)
        self._work.staged.metadata = {}
        signing.timestamp(meta_of(ours.version, ours.data))
        roles = {**self.joined.roles, **signing.roles}
        self.joined = self.joined._replace(roles=roles)

    def _refuse(self, one: Rival, why: str) -> None:
        url = self._work.place.url
        self._refused.add(one.key)
        if one.version:
            raise ConflictError(
                f"{url}: timestamp v{one.version} was published, and what it says "
                f"can't be joined with what timestamp says now: {why}",
                hint="`margo-supplychain repo check` tells more; to leave one of them "
                f"out, agree with who published it, remove its tag "
                f"{one.version}.timestamp with the registry's own tools, and run it "
                "again",
            )
        self._work.warnings.append(
            f"{url} has metadata as if somebody published at the same time, and it "
            f"does not verify: {why}"
        )

    def _join(self, one: Rival) -> bool:
        """Sign a snapshot of both, and let devices judge it.

        Raises:
            VerificationError, FetchError: as a device finds, or a file of the other
                is gone.
            IncompleteError: a role that both changed needs a key that is not at hand.
        """
        work, ours = self._work, own(self._work)
        base = self._lineage.base(ours, one.snapshot)
        if base is None:
            raise FetchError(
                "what both were made from is not there any more", url=work.place.url
            )
        signing = RoleSigning(work)
        union = Union(work, signing, base=base, ours=ours, firm=self._firm)
        union.add(one)
        if union.odd and not one.version:
            self._refuse(one, f"it lists {', '.join(sorted(union.odd))}, not signed")
            if not union.theirs:
                return False
        signing.timestamp(signing.snapshot(union.meta, after=[ours, one.snapshot]))
        work.place.expect(union.meta)
        walk = rehearse_edit(
            Overlay(work.staged, work.place.source),
            work.state,
            union.subjects(),
            now=work.signed_at,
        )
        if one.version:
            self._firm |= union.theirs
        self._lineage.learn(own(work))
        self.joined = Joined(
            walk,
            {**self.joined.roles, **signing.roles},
            self.joined.lost | union.lost,
        )
        return True


def own(work: Work) -> RoleFile[Snapshot]:
    """Return the snapshot that an edit signed last, or begins from."""
    if work.snapshot is None:
        return work.state.snapshot.file
    return parse_snapshot(work.snapshot, limit=LIMITS.snapshot)
