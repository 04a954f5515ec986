"""What a new root goes on from, where no device accepts what lies there as it is.

The keys of snapshot or timestamp were taken away: a thief may have written huge
versions, lists of roles that do not exist or of old ones, or nobody has signed again
since a run was killed. What counts then is what the keys of the root before signed,
wherever it is still found: in the place, its witnesses, and the author's memory.

    timestamp, snapshot   count on from what devices still keep under the new root, and
                          from what is sane; a thief's 2^53 falls with his keys
    snapshot's list       if its keys stay, the newest one stands: devices want it. If
                          they go, each role is listed in its newest good file: signed
                          by whom its delegator names, and listed once
    targets               signed by the new root's keys, or the old one's

Which of several honest states was published can't be told from files alone: of what
rightful keys signed, the newest is taken, and said aloud.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, final

from margo_supplychain import threshold
from margo_supplychain.authoring.evidence import (
    SANE,
    Evidence,
    needs_signing,
    require_who,
)
from margo_supplychain.authoring.role_signing import meta_of
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Parts, State, no_copies
from margo_supplychain.errors import FetchError, FormatError, RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import (
    file_name,
    parse_snapshot,
    parse_timestamp,
)
from margo_supplychain.transport.locations import TIMESTAMP
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.workflow import Trusted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tuf.api.metadata import MetaFile, Root, Snapshot, Targets, Timestamp

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile


class Recovered(NamedTuple):
    """What a new root goes on from.

    Args:
        state: the place as if the new root had been there.
        counted: versions of snapshot and timestamp that new ones must exceed.
        meta: what the new snapshot lists, but for targets if that is signed again.
        after: the snapshots that stand in what it was made from.
        is_kept: whether snapshot's keys stay, and with them the list.
        lacking: top-level roles that the new root's keys must sign.
        brought: files that the place does not have, from the author's memory.
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
        self._brought: dict[str, bytes] = {}
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
        counted = self._counted()
        standing = (one for one in evidence.snapshots if evidence.stands(one))
        # What a killed run listed for a root that nobody adopted is no list to keep.
        kept = list(islice(filter(self._has_targets, standing), 1))
        sane = [one for one in evidence.snapshots if one.version <= SANE]
        known: RoleFile[Snapshot] | None = next(iter(kept or sane), None)
        meta = dict(kept[0].signed.meta) if kept else self._listed()
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
        return Recovered(
            state=state,
            counted=counted,
            meta=meta,
            after=() if known is None else (known,),
            is_kept=bool(kept),
            lacking=frozenset(lacking),
            brought=self._brought,
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
        return stand + [one.version for one in files if one.version <= SANE]

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
        status = threshold.count(
            file.payload,
            file.metadata.signatures,
            who.keys,
            who.keys,
            who.threshold,
            role=file.role,
        )
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
        data = None if entry is None else self._named("targets", entry)
        if data is None:
            return None
        who = require_who(self._evidence.new, "targets")
        return self._evidence.signed("targets", data) or signed_by(data, who)

    def _has_targets(self, snapshot: RoleFile[Snapshot]) -> bool:
        return self._listed_targets(snapshot.signed.meta) is not None

    def _listed(self) -> dict[str, MetaFile]:
        """Return each role in its newest good file, who delegates first."""
        evidence = self._evidence
        meta: dict[str, MetaFile] = {}
        tops = [require_who(one, "targets") for one in evidence.signing]
        waiting: list[tuple[str, list[RoleSigners]]] = [("targets", tops)]
        while waiting:
            role, who = waiting.pop(0)
            entry = self._best(role, who)
            if entry is None:
                continue
            meta[f"{role}.json"] = entry
            file = self._good(role, entry, who)
            below = None if file is None else file.signed.delegations
            for name in (below.roles or {}) if below is not None else {}:
                found = None if file is None else signers_of(file.signed, name)
                if found is not None and f"{name}.json" not in meta:
                    with suppress(FormatError):
                        if delegator_of(name) == role:
                            waiting.append((name, [found]))
        for name, entry in self._candidates():
            # Of those whose delegation has ended, or that nobody ever delegated to.
            if name not in meta and entry.version <= SANE and self._exists(name, entry):
                meta[name] = entry
        self._tell(meta)
        return meta

    def _candidates(self) -> Iterator[tuple[str, MetaFile]]:
        """Yield what snapshots list, the newest sane files of each role first."""
        found = [
            (name, entry)
            for one in self._evidence.snapshots
            for name, entry in one.signed.meta.items()
        ]
        found.sort(key=lambda one: (one[1].version <= SANE, one[1].version))
        yield from reversed(found)

    def _best(self, role: str, who: Sequence[RoleSigners]) -> MetaFile | None:
        listed = [one for name, one in self._candidates() if name == f"{role}.json"]
        for entry in listed:
            if self._good(role, entry, who) is not None:
                return entry
        for version in self._evidence.versions(role):
            for data in self._evidence.read(file_name(role, version), LIMITS.targets):
                entry = meta_of(version, data)
                if self._good(role, entry, who) is not None:
                    return entry
        # Its delegator has given it other keys since: its holder signs it again.
        left = (one for one in listed if self._exists(f"{role}.json", one))
        return next((one for one in left if one.version <= SANE), None)

    def _good(
        self, role: str, entry: MetaFile, who: Sequence[RoleSigners]
    ) -> RoleFile[Any] | None:
        data = self._named(role, entry)
        for one in who if data is not None else ():
            file = signed_by(data or b"", one)
            if file is not None and file.version == entry.version:
                return file
        return None

    def _exists(self, name: str, entry: MetaFile) -> bool:
        return self._named(name.removesuffix(".json"), entry) is not None

    def _named(self, role: str, entry: MetaFile) -> bytes | None:
        data: bytes | None = None
        try:
            data = self._start.place.named(role, entry)
        except FetchError as why:
            if why.unreachable:
                raise
        if data is not None and meta_of(entry.version, data) == entry:
            return data
        store = self._start.store
        data = None if store is None else store.copy(role)
        if data is None or meta_of(entry.version, data) != entry:
            return None
        self._brought[file_name(role, entry.version)] = data
        return data

    def _tell(self, meta: dict[str, MetaFile]) -> None:
        """Say what is not as the timestamp had it."""
        shown = self._shown()
        for name in sorted({*meta, *shown}):
            role = name.removesuffix(".json")
            if name not in meta:
                self._told.append(
                    f"snapshot listed {role[:160]} v{shown[name].version}, and nothing "
                    "that its keys signed is there: it is left out, and its holder "
                    "publishes again"
                )
            elif shown.get(name) != meta[name]:
                said = f"v{shown[name].version}" if name in shown else "nothing"
                self._told.append(
                    f"snapshot listed {said} of {role}: v{meta[name].version} is the "
                    "newest that its keys signed, and is listed again"
                )

    def _shown(self) -> dict[str, MetaFile]:
        """Return what the timestamp that lies there leads to."""
        for data in self._evidence.read(TIMESTAMP, LIMITS.timestamp):
            file = self._evidence.signed("timestamp", data)
            if file is None:
                continue
            named = file.signed.snapshot_meta
            for one in self._evidence.snapshots:
                if meta_of(one.version, one.data) == named:
                    return dict(one.signed.meta)
        return {}


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
