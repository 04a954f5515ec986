"""Two publishers wrote their timestamps at the same moment: the last one joins both.

A registry can't compare and swap. Between our last look at `timestamp` and the write of
it, another publisher may have written it too, and been told that all is done. But each
writes a snapshot before the last look at `timestamp`. So if both looked and saw the old
one, then whoever wrote last finds the other's snapshot afterwards, under the name of
the own one or above it; if it is below, the other finds ours.

What is found there, verifies, was signed about when ours was and was made from what
ours was made from (`x-after`), is joined: a snapshot with the newer file of each role,
and the next timestamp. Where both changed one role, the other's stays and ours is not
published: run again, it starts from there. What was made from something older is left
alone: its publisher will find that somebody was faster.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tuf.api.metadata import MetaFile, Targets

from margo_supplychain.authoring.overlay import Overlay
from margo_supplychain.authoring.rehearsal import Subjects, rehearse_edit
from margo_supplychain.authoring.role_signing import AFTER, RoleSigning
from margo_supplychain.authoring.roles import application_of, kind_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    FormatError,
    ThresholdError,
    VerificationError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.tuf_metadata import parse_snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from tuf.api.metadata import Snapshot

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.verify.refresh import Walk

MOST_JOINS: Final = 3
MOST_ANCESTORS: Final = 64  # snapshots that are read to know what one was made from
# Signatures come before content, which may be a day on its way.
AT_ONCE: Final = timedelta(days=1)


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

    Args:
        work: the edit, which is written.
        walk: what a device accepted of it.

    Raises:
        ConflictError: somebody else published again meanwhile, or keeps doing so.
        StorageError, FetchError: something can't be written, or read.
    """
    joined = Joined(walk)
    for _ in range(MOST_JOINS):
        rivals = _rivals(work)
        if not rivals:
            return joined
        staged = work.staged.metadata
        try:
            found = _join(work, rivals)
        except (VerificationError, FetchError) as why:
            work.staged.metadata = staged
            work.warnings.append(
                f"{work.place.url} has metadata as if somebody published at the same "
                f"time, and it does not verify: {why}"
            )
            return joined
        work.place.write_metadata(work)
        work.place.commit(work)
        joined = Joined(
            found.walk, {**joined.roles, **found.roles}, joined.lost | found.lost
        )
    raise ConflictError(f"{work.place.url}: others publish again and again")


def _rivals(work: Work) -> list[RoleFile[Snapshot]]:
    """Return the verified snapshots of those who began where we did, or later."""
    if work.place.is_own:
        return []  # it has a lock
    ours = _own(work)
    if ours is None:
        return []
    found: list[RoleFile[Snapshot]] = []
    ancestry = _Ancestry(work, ours)
    who = work.changes.require_who("snapshot")
    for version, data in work.place.others("snapshot", ours.version, ours.data):
        one = signed_by(data, who)
        if (
            one is not None
            and one.version == version
            and abs(one.expires - ours.expires) <= AT_ONCE
            and ancestry.descends(one)
            and not _goes_back(work, one)
        ):
            found.append(one)
    return found


def _goes_back(work: Work, one: RoleFile[Snapshot]) -> bool:
    """Say whether a snapshot lists anything older than what we began from."""
    for name, known in work.state.snapshot.signed.meta.items():
        entry = one.signed.meta.get(name)
        if entry is None or (entry != known and entry.version <= known.version):
            return True
    return False


class _Ancestry:
    """Which snapshots were made from the one that this edit began from."""

    def __init__(self, work: Work, ours: RoleFile[Snapshot]) -> None:
        self._place = work.place
        self._base = work.state.snapshot
        self._known = {self._base.file.sha256: True, ours.sha256: True}
        self._left = MOST_ANCESTORS

    def descends(self, one: RoleFile[Snapshot]) -> bool:
        """Say whether a verified snapshot has the work of our base in it."""
        found = self._known.get(one.sha256)
        if found is None:
            # Not yet, in case that somebody signed a circle.
            self._known[one.sha256] = False
            found = any(self._is_ours(entry) for entry in _after(one))
            self._known[one.sha256] = found
        return found

    def _is_ours(self, entry: MetaFile) -> bool:
        sha256 = (entry.hashes or {}).get("sha256", "")
        if sha256 in self._known or entry.version <= self._base.version:
            return self._known.get(sha256, False)
        self._left -= 1
        if self._left < 0:
            return False
        try:
            data = self._place.named("snapshot", entry)
            return self.descends(parse_snapshot(data, limit=LIMITS.snapshot))
        except (FetchError, FormatError):
            return False


def _after(one: RoleFile[Snapshot]) -> list[MetaFile]:
    """Return the snapshots that one says it was made from."""
    value = one.signed.unrecognized_fields.get(AFTER)
    if not isinstance(value, list):
        return []
    with suppress(TypeError, ValueError, KeyError, AttributeError):
        return [MetaFile.from_dict(dict(entry)) for entry in value[:MOST_ANCESTORS]]
    return []


def _own(work: Work) -> RoleFile[Snapshot] | None:
    if work.snapshot is None:
        return None
    return parse_snapshot(work.snapshot, limit=LIMITS.snapshot)


def _join(work: Work, rivals: Sequence[RoleFile[Snapshot]]) -> Joined:
    """Sign a snapshot of everybody's work, and let devices judge it.

    Raises:
        VerificationError, FetchError: as a device finds, or a file of the others is
            gone.
    """
    base = work.state.snapshot.signed.meta
    ours = _own(work)
    meta = dict(base if ours is None else ours.signed.meta)
    theirs: dict[str, MetaFile] = {}
    lost = set()
    for one in rivals:
        for name, entry in one.signed.meta.items():
            if entry not in (base.get(name), meta.get(name)):
                theirs[name] = entry
                if meta.get(name) != base.get(name):
                    lost.add(name.removesuffix(".json"))
    signing = RoleSigning(work)
    work.staged.metadata = {}
    for name, entry in theirs.items():
        role, known = name.removesuffix(".json"), meta.get(name)
        if known is not None and known.version >= entry.version:
            # Devices may have seen ours: the other's content takes a newer version.
            copy = _copy(work, role, entry)
            meta[name] = signing.sign(role, copy, above=known.version)
        else:
            meta[name] = entry
    own = [] if ours is None else [ours]
    signing.timestamp(signing.snapshot(meta, after=[*own, *rivals]))
    work.place.expect(meta)
    changed = [
        name.removesuffix(".json")
        for name, entry in meta.items()
        if entry != base.get(name)
    ]
    walk = rehearse_edit(
        Overlay(work.staged, work.place.source),
        work.state,
        Subjects(
            tuple(changed),
            {
                application_of(role): frozenset()
                for role in changed
                if kind_of(role) == "application"
            },
        ),
        now=work.signed_at,
    )
    return Joined(walk, signing.roles, frozenset(lost))


def _copy(work: Work, role: str, entry: MetaFile) -> Targets:
    """Return what another publisher made of a role that we changed, too.

    Raises:
        FetchError: the file is gone.
        ThresholdError: it is not signed by the role's keys: ours sign nothing else.
    """
    data = work.place.named(role, entry)
    who = work.changes.require_who(role)
    if signed_by(data, who) is None:
        raise ThresholdError(
            f"{role} v{entry.version} is not signed by its own keys",
            role=role,
            needed=who.threshold,
            valid=0,
        )
    signed: dict[str, Any] = strict_json.parse(data, what=role, limit=LIMITS.targets)
    return Targets.from_dict(signed["signed"])
