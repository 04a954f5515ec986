"""What a new root goes on from, where no device accepts what lies there as it is.

The keys of snapshot or timestamp were taken away: a thief may have written huge
versions, lists of roles that do not exist or of old ones, or nobody has signed again
since a run was killed. What counts then is what the keys of the root before signed,
wherever it is still found: in the place, its witnesses, and the author's memory.

    timestamp, snapshot   count on from what devices still keep under the new root, and
                          from what is sane; a thief's 2^53 falls with his keys
    snapshot's list       if its keys stay, the newest one stands: devices want it; but
                          not what a killed edit left. If they go, each role is listed
                          in its newest good file (`relisting`)
    targets               signed by the new root's keys, or the old one's

Which of several honest states was published can't be told from files alone: of what
rightful keys signed, the newest is taken, and said aloud.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, final

from margo_supplychain import threshold
from margo_supplychain.authoring.evidence import (
    COUNTED,
    Evidence,
    needs_signing,
    require_who,
)
from margo_supplychain.authoring.relisting import Relisting
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Parts, State, no_copies
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import (
    parse_snapshot,
    parse_timestamp,
)
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Trusted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.formats.tuf_metadata import RoleFile


_MOST_TOLD: Final = 10  # roles of one snapshot


class Recovered(NamedTuple):
    """What a new root goes on from.

    Args:
        state: the place as if the new root had been there.
        counted: versions of snapshot and timestamp that new ones must exceed.
        meta: what the new snapshot lists, but for targets if that is signed again.
        after: the snapshots that stand in what it was made from.
        is_kept: whether snapshot's keys stay, and with them the list.
        lacking: top-level roles that the new root's keys must sign.
        brought: files that devices would not find there: from the author's memory, or
            of a registry that lost their tags.
        told: what the author should know, one line each.
    """

    state: State
    counted: dict[str, int]
    meta: dict[str, MetaFile]
    after: tuple[RoleFile[Snapshot], ...]
    is_kept: bool
    lacking: frozenset[str]
    brought: Mapping[str, bytes]
    told: tuple[str, ...]


def recover(
    start: Beginning, chain: Sequence[RoleFile[Root]], *, is_there: bool
) -> Recovered:
    """Return what the last root of a chain goes on from.

    Args:
        start: what is at hand.
        chain: verified roots, oldest first.
        is_there: whether the last one is published already.

    Raises:
        RefusedError: nothing is left that the keys of any of them signed.
        FetchError: the place does not answer.
    """
    new = chain[-1]
    for old in (*reversed(chain[:-1]), new):
        evidence = Evidence(start, old=old.signed, new=new.signed, is_there=is_there)
        if evidence.snapshots or evidence.timestamps:
            return _Recovery(start, evidence, new).result()
    raise RefusedError(
        f"{start.place.url} has no snapshot or timestamp that the keys of root "
        f"v{new.version} or of those before signed",
        hint="bring metadata/ back from a backup, or name your memory of the "
        "repository (--state); nothing was changed",
    )


@final
class _Recovery:
    """Makes a state of what was found."""

    def __init__(
        self, start: Beginning, evidence: Evidence, root: RoleFile[Root]
    ) -> None:
        self._start = start
        self._evidence = evidence
        self._root = root
        self._told: list[str] = []
        store = start.store
        self._before = (
            Memory(root=start.first_root, publishers=None)
            if store is None
            else store.load()
        )
        self._floors = self._before.without_fallen(self._still_trusted)

    def _still_trusted(self, role: str, signers: frozenset[str]) -> bool:
        found, keys = self._root.signed.roles[role], self._root.signed.keys
        return threshold.still_met(signers, keys, found.keyids, found.threshold)

    def result(self) -> Recovered:
        """Return what to go on from."""
        evidence = self._evidence
        if evidence.unread:
            self._told.append(
                f"{self._start.place.url} has {evidence.unread} more names of "
                "timestamp than are looked at, and the oldest were not: one of each "
                "edit, or somebody who may push there wrote them to hide what was "
                "published (remove those tags with the registry's own tools)"
            )
        counted = self._counted()
        kept = self._kept()
        sane = (one for one in evidence.snapshots if one.version <= COUNTED)
        known = kept or next(sane, None)
        meta = self._listed() if kept is None else dict(kept.signed.meta)
        base = known
        if base is None or meta != base.signed.meta:
            base = _unsigned_snapshot(meta, counted["snapshot"], self._start)
        targets = self._targets(meta)
        timestamp = self._timestamp(base, counted["timestamp"])
        self._start.place.expect(meta)
        store = self._start.store
        parts = Parts(
            timestamp=timestamp,
            snapshot=self._trusted(base),
            targets=self._trusted(targets),
            before=self._before,
            first_root=self._start.first_root,
            source=self._start.place.source,
            copies=no_copies if store is None else store.copy,
        )
        clock = StoppedClock(self._start.now)
        state = State.under(self._root, parts, clock=clock)
        lacking = {"timestamp"}
        if needs_signing(targets, evidence.new, self._start):
            lacking.add("targets")
        if (
            "targets" in lacking
            or base is not known
            or needs_signing(base, evidence.new, self._start)
        ):
            lacking.add("snapshot")
        listed = dict(meta)
        if "snapshot" not in lacking:
            listed["snapshot.json"] = meta_of(base.version, base.data)
        return Recovered(
            state=state,
            counted=counted,
            meta=meta,
            after=() if known is None else (known,),
            is_kept=kept is not None,
            lacking=frozenset(lacking),
            brought=evidence.unserved(listed),
            told=tuple(self._told),
        )

    # --- versions --------------------------------------------------------------------

    def _counted(self) -> dict[str, int]:
        """Return the versions that new ones must exceed, see the module."""
        evidence, floors = self._evidence, self._floors
        timestamps = self._to_count(evidence.timestamps)
        snapshots = self._to_count(evidence.snapshots)
        # What a timestamp that devices still believe has announced, bars the rest.
        snapshots += [
            one.signed.snapshot_meta.version
            for one in evidence.timestamps
            if evidence.stands(one)
        ]
        if floors.timestamp is not None:
            timestamps.append(floors.timestamp.version)
            snapshots.append(floors.timestamp.snapshot_version)
        if floors.snapshot is not None:
            snapshots.append(floors.snapshot.version)
        last = max(snapshots, default=0)
        # Ours never are below their snapshot, so with none left that is where to begin.
        return {"snapshot": last, "timestamp": max(timestamps, default=last)}

    def _to_count(self, files: Sequence[RoleFile[Any]]) -> list[int]:
        stand = [one.version for one in files if self._evidence.stands(one)]
        if stand and self._evidence.is_there:
            return stand  # the keys before sign no more, whoever has them
        return stand + [one.version for one in files if one.version <= COUNTED]

    def _timestamp(
        self, snapshot: RoleFile[Snapshot], counted: int
    ) -> Trusted[Timestamp]:
        found = [one for one in self._evidence.timestamps if one.version <= counted]
        if found:
            return self._trusted(found[0])
        named = meta_of(snapshot.version, snapshot.data)
        signed = _unsigned(
            "timestamp", counted, self._start, {"snapshot.json": named.to_dict()}
        )
        file = parse_timestamp(signed, limit=LIMITS.timestamp)
        return Trusted(file, frozenset(), ())

    def _trusted(self, file: RoleFile[Any]) -> Trusted[Any]:
        who = require_who(self._evidence.new, file.role)
        status = who.status(file)
        # What the new root's keys have not signed, nobody has signed any more.
        return Trusted(
            file, status.signers if status.met else frozenset(), status.keyids
        )

    # --- roles -----------------------------------------------------------------------

    def _targets(self, meta: dict[str, MetaFile]) -> RoleFile[Targets]:
        file = self._listed_targets(meta)
        if file is not None:
            return file
        raise RefusedError(
            f"{self._start.place.url} has no targets that the keys of root "
            f"v{self._root.version} or of the one before signed",
            hint="bring metadata/ back from a backup; nothing was changed",
        )

    def _listed_targets(self, meta: Mapping[str, MetaFile]) -> RoleFile[Targets] | None:
        """Return the targets of a list, if rightful keys signed it.

        Those of the new root count as well: a killed run signed it, and a snapshot
        whose keys stay may list it.
        """
        entry = meta.get("targets.json")
        data = None if entry is None else self._evidence.named("targets", entry)
        if data is None:
            return None
        who = require_who(self._evidence.new, "targets")
        return self._evidence.signed("targets", data) or signed_by(data, who)

    def _has_targets(self, snapshot: RoleFile[Snapshot]) -> bool:
        return self._listed_targets(snapshot.signed.meta) is not None

    def _kept(self) -> RoleFile[Snapshot] | None:
        """Return the snapshot that stands with its keys; None if they go.

        Others than the newest stand only where that was never published: by a killed
        edit, which its author must run again. A thief of timestamp's key may have named
        an older one; who saw the newest refuses that.
        """
        evidence = self._evidence
        standing = [one for one in evidence.snapshots if evidence.stands(one)]
        # What a killed run listed for a root that nobody adopted is no list to keep.
        usable = filter(self._has_targets, standing)
        newest = next(usable, None)
        if newest is None or newest.sha256 in evidence.published:
            self._tell_missing(newest)
            return newest
        known = (one for one in usable if one.sha256 in evidence.published)
        before = next(known, None)
        if before is not None and evidence.was_cut_short():
            self._told.append(
                f"{newest.label} lies there, and the edit that made it was cut short "
                f"before it was published: {before.label} stands; "
                f"{_changes(before, newest)}, so run that edit again"
            )
            return before
        self._tell_missing(newest)
        self._told.append(
            f"no timestamp that is left names {newest.label}: it stands, since its "
            f"keys signed it; {_changes(before, newest)}"
        )
        return newest

    def _tell_missing(self, kept: RoleFile[Snapshot] | None) -> None:
        """Say which snapshot and roles somebody may have taken away."""
        if kept is None:
            return
        timestamp = self._missing()
        if timestamp is not None:
            self._told.append(
                f"{timestamp.label} names snapshot "
                f"v{timestamp.signed.snapshot_meta.version}, which is not there, or "
                f"not signed by its keys: {kept.label} stands, the newest that is"
            )
        self._tell_newer(Relisting(self._evidence), kept.signed.meta)

    def _tell_newer(self, relisting: Relisting, meta: Mapping[str, MetaFile]) -> None:
        self._told += relisting.newer(meta)

    def _missing(self) -> RoleFile[Timestamp] | None:
        """Return the timestamp that lies there if what it names is not to be found."""
        found = self._evidence.shown()
        return found if self._shown() is None else None

    def _listed(self) -> dict[str, MetaFile]:
        """Return each role in its newest good file, and say what is not as it was."""
        evidence = self._evidence
        relisting = Relisting(evidence)
        meta = relisting.listed()
        shown, known = self._shown(), evidence.of_memory()
        if known is not None:
            # What lies there may be a thief's from the first name to the last.
            self._told += relisting.told(meta, known.signed.meta, of="your memory's ")
        if shown is not None:
            self._told += relisting.told(meta, shown.signed.meta)
        elif known is None:
            self._told.append(
                f"{self._start.place.url} shows no list that can be read: each role is "
                "listed in the newest file that was found of those that its keys "
                f"signed, and newer ones may have been hidden: {_roles(None, meta)}"
            )
        self._tell_newer(relisting, meta)
        return meta

    def _shown(self) -> RoleFile[Snapshot] | None:
        """Return what the timestamp that lies there leads to."""
        timestamp = self._evidence.shown()
        named = None if timestamp is None else timestamp.signed.snapshot_meta
        return next(
            (
                one
                for one in self._evidence.snapshots
                if meta_of(one.version, one.data) == named
            ),
            None,
        )


def _changes(before: RoleFile[Snapshot] | None, after: RoleFile[Snapshot]) -> str:
    """Say what a snapshot lists anew."""
    known = None if before is None else before.signed.meta
    return f"new in it: {_roles(known, after.signed.meta)}"


def _roles(before: Mapping[str, MetaFile] | None, after: Mapping[str, MetaFile]) -> str:
    """Name the roles of a list that are not as they were."""
    known = before or {}
    found = [
        f"{name.removesuffix('.json')} v{entry.version}"
        for name, entry in sorted(after.items())
        if known.get(name) != entry
    ]
    more = f" and {len(found) - _MOST_TOLD} more" if len(found) > _MOST_TOLD else ""
    return f"{', '.join(found[:_MOST_TOLD]) or 'nothing'}{more}"


def _unsigned_snapshot(
    meta: dict[str, MetaFile], version: int, start: Beginning
) -> RoleFile[Snapshot]:
    entries = {name: entry.to_dict() for name, entry in meta.items()}
    data = _unsigned("snapshot", version, start, entries)
    return parse_snapshot(data, limit=len(data))


def _unsigned(
    role: str, version: int, start: Beginning, meta: dict[str, dict[str, Any]]
) -> bytes:
    """Return metadata that nobody has signed: where counting begins, and no more."""
    return strict_json.canonical(
        {
            "signatures": [],
            "signed": {
                "_type": role,
                "spec_version": "1.0.31",
                "version": max(version, 1),
                "expires": format_time(start.now),
                "meta": meta,
            },
        }
    )
