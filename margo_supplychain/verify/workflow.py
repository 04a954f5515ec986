"""The TUF client workflow as rules: bytes in, trusted metadata or an error out.

Pure over `tuf.api.metadata` (TUF specification 1.0.34, sections 5.3 to 5.6): no
network, no disk, no clock of its own. `refresh` decides what to fetch; this module
alone decides what is believed, and every method raises or moves trust forward. The
numbered checks are listed in docs/explanation/verification.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from tuf.api.metadata import Root, Snapshot, Targets, Timestamp

from margo_supplychain import threshold
from margo_supplychain.errors import (
    MalformedError,
    MixAndMatchError,
    RollbackError,
    ThresholdError,
    UnknownTargetError,
)
from margo_supplychain.formats import tuf_metadata
from margo_supplychain.verify.clock import Clock, Moment
from margo_supplychain.verify.memory import (
    FileFloor,
    Memory,
    SnapshotFloor,
    TimeFloor,
    TimestampFloor,
)
from margo_supplychain.verify.remote import remote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from securesystemslib.signer import Key
    from tuf.api.metadata import MetaFile, Role

    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.verify.limits import Limits

T = TypeVar("T", Root, Timestamp, Snapshot, Targets)


class Demand(Enum):
    """What a repository must keep to.

    TUF: the specification, for any TUF repository (`margo_supplychain.conformance`).
    MARGO: also length and sha256 for every listed file, `x-issued`, consistent
        snapshots, key ids computed from keys, and no key twice in a role.
    """

    TUF = "tuf"
    MARGO = "margo"


@dataclass(frozen=True, slots=True, eq=False)
class Trusted(Generic[T]):
    """A metadata file whose signatures, version and place were checked.

    Args:
        file: the exact file.
        signers: material of the keys that signed it.
        keyids: their key ids in the delegator.
    """

    file: RoleFile[T]
    signers: frozenset[str]
    keyids: tuple[str, ...]

    @property
    def signed(self) -> T:
        """What the file says."""
        return self.file.signed

    @property
    def version(self) -> int:
        """The role's version."""
        return self.file.version


class Workflow:
    """One walk through TUF 5.3 to 5.6.

    Args:
        memory: the floors to start from; `self.memory` moves as files are accepted.
        demand: what the repository must keep to.
        limits: sizes.

    Raises:
        MalformedError: the remembered root is no root.
    """

    def __init__(self, memory: Memory, *, demand: Demand, limits: Limits) -> None:
        self.memory = memory
        self._demand = demand
        self._limits = limits
        with remote("trusted root"):
            root = tuf_metadata.parse_root(memory.root, limit=limits.root)
            self._require_sound_root(root)
        self.root = self._signed_by(root, root)
        self.timestamp: Trusted[Timestamp] | None = None
        self.snapshot: Trusted[Snapshot] | None = None
        self.roles: dict[str, Trusted[Targets]] = {}
        self._moment: Moment | None = None

    # --- root (TUF 5.3) --------------------------------------------------------------

    def update_root(self, data: bytes) -> None:
        """Accept the next root (TUF 5.3.4 to 5.3.8).

        Args:
            data: unverified.
        """
        with remote("root"):
            new = tuf_metadata.parse_root(data, limit=self._limits.root)
            # check 1.10: distinct keys, computed key ids and our fields, on raw bytes
            self._require_sound_root(new)
        # check 1.11: TUF 5.3.4, signed by a threshold of the trusted root's keys
        self._signed_by(new, self.root.file)
        # check 1.12 (instead: signed = Trusted(new, frozenset(), ())): TUF 5.3.4,
        # signed by a threshold of its own keys too
        signed = self._signed_by(new, new)
        # check 1.13: TUF 5.3.5, exactly the next version
        if new.version != self.root.version + 1:
            raise RollbackError(
                f"root v{new.version} was served as v{self.root.version + 1}",
                role="root",
                trusted=self.root.version,
                offered=new.version,
            )
        self.root = signed
        self.memory = replace(self.memory, root=new.data)

    def close_root(self, clock: Clock) -> None:
        """End the walk along the root chain, and take the time (TUF 5.3.10, 5.3.11)."""
        # check 1.14 (instead: self.memory = self.memory): TUF 5.3.11, floors fall with
        # the keys that earned them: a device comes back from a fast-forward attack
        self.memory = self.memory.without_fallen(self._still_trusted)
        moment = Moment.take(clock, self.memory.root_time, self.memory.timestamp_time)
        if self.root.file.issued is not None:
            moment = moment.with_floor(self.root.file.issued)
        self._moment = moment
        # check 1.15: TUF 5.3.10, the newest root must not have expired
        self._require_unexpired(self.root.file)

    # --- timestamp (TUF 5.4) ---------------------------------------------------------

    def update_timestamp(self, data: bytes) -> bool:
        """Accept a timestamp; False if it is the one that is trusted already.

        A file of the trusted version is discarded (TUF 5.4.3.1), never a second truth.

        Args:
            data: unverified.
        """
        with remote("timestamp"):
            new = tuf_metadata.parse_timestamp(data, limit=self._limits.timestamp)
            meta = new.signed.snapshot_meta
            if self._demand is Demand.MARGO:
                # check 1.20: snapshot is bound by length and sha256
                _require_bound("snapshot.json", meta)
                # check 1.21: it says when it was issued
                _require_issued(new)
        # check 1.22 (instead: signed = Trusted(new, frozenset(), ())): TUF 5.4.2
        signed = self._signed_by(new, self.root.file)
        floor = self.memory.timestamp
        if floor is not None and new.version == floor.version:
            if self.timestamp is not None:
                return False
            # check 1.23: the copy was lost, the memory still knows its bytes
            if new.sha256 != floor.sha256:
                raise MixAndMatchError(
                    f"{new.label} has other bytes than the one accepted before",
                    role="timestamp",
                )
        # check 1.24: TUF 5.4.3.1
        if floor is not None and new.version < floor.version:
            raise _older("timestamp", new.version, floor.version)
        # check 1.25: TUF 5.4.3.2
        if floor is not None and meta.version < floor.snapshot_version:
            raise _older("snapshot", meta.version, floor.snapshot_version)
        # check 1.26: the snapshot floor outlives timestamp's keys
        if self.memory.snapshot and meta.version < self.memory.snapshot.version:
            raise _older("snapshot", meta.version, self.memory.snapshot.version)
        self.timestamp = signed
        return True

    def close_timestamp(self) -> None:
        """Check the final timestamp's expiry and remember it (TUF 5.4.4, 5.4.5)."""
        signed = self.timestamp
        if signed is None:
            raise MixAndMatchError("there is no timestamp", role="timestamp")
        if signed.file.issued is not None:
            self._moment = self.moment.with_floor(signed.file.issued)
            # check 1.27: a signed time counts only if earlier than
            # the expiry of every file accepted with it
            self._require_unexpired(self.root.file)
        # check 1.28: TUF 5.4.4
        self._require_unexpired(signed.file)
        self.memory = replace(
            self.memory,
            timestamp=TimestampFloor(
                version=signed.version,
                sha256=signed.file.sha256,
                snapshot_version=signed.signed.snapshot_meta.version,
                signers=signed.signers,
            ),
        )

    # --- snapshot (TUF 5.5) ----------------------------------------------------------

    @property
    def snapshot_meta(self) -> tuple[MetaFile, str]:
        """What the trusted timestamp says of the snapshot, and that file's label."""
        if self.timestamp is None:
            raise MixAndMatchError("there is no timestamp", role="snapshot")
        return self.timestamp.signed.snapshot_meta, self.timestamp.file.label

    def update_snapshot(self, data: bytes) -> None:
        """Accept the snapshot that the timestamp names (TUF 5.5.2 to 5.5.7).

        Args:
            data: unverified.
        """
        meta, label = self.snapshot_meta
        with remote("snapshot"):
            # check 1.30: TUF 5.5.2, the bytes that the timestamp names
            _require_named("snapshot", data, meta, label)
            new = tuf_metadata.parse_snapshot(data, limit=self._limits.snapshot)
            if self._demand is Demand.MARGO:
                for name, entry in new.signed.meta.items():
                    # check 1.31: a role's key alone must not change what a version is
                    _require_bound(name, entry)
        # check 1.32 (instead: signed = Trusted(new, frozenset(), ())): TUF 5.5.3
        signed = self._signed_by(new, self.root.file)
        # check 1.33: TUF 5.5.4
        if new.version != meta.version:
            raise MixAndMatchError(
                f"{new.label} was served where {label} names v{meta.version}",
                role="snapshot",
            )
        # check 1.34: TUF 5.5.5, no role goes back or away
        self._require_no_rollback(new)
        # check 1.35: TUF 5.5.6
        self._require_unexpired(new)
        self.snapshot = signed
        self.memory = replace(
            self.memory,
            snapshot=SnapshotFloor(
                version=new.version,
                sha256=new.sha256,
                roles={
                    name: FileFloor(entry.version, (entry.hashes or {}).get("sha256"))
                    for name, entry in new.signed.meta.items()
                },
                signers=signed.signers,
            ),
        )

    def _require_no_rollback(self, new: RoleFile[Snapshot]) -> None:
        floor = self.memory.snapshot
        if floor is None:
            return
        for name, known in floor.roles.items():
            role = name.removesuffix(".json")
            entry = new.signed.meta.get(name)
            # check 1.37: TUF 5.5.5, a listed role never vanishes
            if entry is None:
                raise RollbackError(
                    f"{new.label} no longer lists {role}, trusted at v{known.version}",
                    role=role,
                    trusted=known.version,
                    offered=0,
                )
            # check 1.38: TUF 5.5.5, nor goes back
            if entry.version < known.version:
                raise _older(role, entry.version, known.version)
            sha256 = (entry.hashes or {}).get("sha256")
            # check 1.39: one version of a role is one file
            if (
                entry.version == known.version
                and known.sha256 is not None
                and sha256 is not None
                and sha256 != known.sha256
            ):
                raise MixAndMatchError(
                    f"{new.label} names other bytes for {role} v{entry.version} than "
                    "those accepted before",
                    role=role,
                )

    # --- targets and delegated roles (TUF 5.6) ---------------------------------------

    def listed(self, role: str) -> MetaFile:
        """Return what the snapshot says of a targets role.

        Raises:
            UnknownTargetError: the snapshot does not list it.
        """
        if self.snapshot is None:
            raise MixAndMatchError("there is no snapshot", role=role)
        entry = self.snapshot.signed.meta.get(f"{role}.json")
        if entry is None:
            raise UnknownTargetError(
                f"{self.snapshot.file.label} does not list the role {role}", name=role
            )
        return entry

    def update_targets(
        self, data: bytes, role: str, delegator: str
    ) -> Trusted[Targets]:
        """Accept a targets role as its delegator and the snapshot want it (TUF 5.6).

        Args:
            data: unverified.
            role: the role's name.
            delegator: `root`, or the trusted role that delegates to it.
        """
        entry = self.listed(role)
        snapshot = self.snapshot
        label = "snapshot" if snapshot is None else snapshot.file.label
        parent = self.root.file if delegator == "root" else self.roles[delegator].file
        with remote(role):
            # check 1.40: TUF 5.6.2, the bytes that the snapshot names
            _require_named(role, data, entry, label)
            new = tuf_metadata.parse_targets(
                data, role=role, limit=self._limits.targets
            )
        # check 1.42 (instead: signed = Trusted(new, frozenset(), ())): TUF 5.6.3
        signed = self._signed_by(new, parent)
        if self._demand is Demand.MARGO:
            # check 1.41: distinct keys and computed key ids in its delegations
            _require_sound_delegations(new)
        # check 1.43: TUF 5.6.4
        if new.version != entry.version:
            raise MixAndMatchError(
                f"{new.label} was served where {label} names v{entry.version}",
                role=role,
            )
        # check 1.44: TUF 5.6.5
        self._require_unexpired(new)
        self.roles[role] = signed
        return signed

    def complete(self) -> Memory:
        """Return the memory with the signed times of a whole, consistent set."""
        memory = self.memory
        timestamp = self.timestamp
        if timestamp is None or self.snapshot is None or "targets" not in self.roles:
            raise MixAndMatchError("the set of metadata is not whole", role="targets")
        # check 1.50 (instead: return memory): signed time is a floor from now on
        return replace(
            memory,
            root_time=_later(memory.root_time, self.root),
            timestamp_time=_later(memory.timestamp_time, timestamp),
        )

    # --- shared ----------------------------------------------------------------------

    @property
    def moment(self) -> Moment:
        """The time that this walk uses; known once the root chain is walked."""
        if self._moment is None:
            raise RuntimeError("close_root takes the time")
        return self._moment

    def _require_unexpired(self, file: RoleFile[Any]) -> None:
        self.moment.require_unexpired(file.role, file.label, file.expires)

    def _still_trusted(self, role: str, signers: frozenset[str]) -> bool:
        found, keys = delegation(self.root.file, role)
        return threshold.still_met(signers, keys, found.keyids, found.threshold)

    def _signed_by(self, new: RoleFile[T], parent: RoleFile[Any]) -> Trusted[T]:
        found, keys = delegation(parent, new.role)
        status = threshold.count(
            new.payload,
            new.metadata.signatures,
            keys,
            found.keyids,
            found.threshold,
            role=new.role,
        )
        # check 1.3: TUF 5.3.4, 5.4.2, 5.5.3, 5.6.3: the threshold is met
        status.require(new.label)
        return Trusted(new, status.signers, status.keyids)

    def _require_sound_root(self, root: RoleFile[Root]) -> None:
        if self._demand is Demand.TUF:
            return
        # check 1.17: without consistent snapshots a reader sees half of an update
        if root.signed.consistent_snapshot is not True:
            raise MalformedError(f"{root.label} does not promise consistent snapshots")
        # check 1.18: it says when it was issued
        _require_issued(root)
        sound: set[str] = set()
        for role, found in root.signed.roles.items():
            what = f"{role} in {root.label}"
            # check 1.19: one key is one key
            _require_distinct(what, root.signed.keys, found.keyids, sound)


def delegation(
    parent: RoleFile[Root] | RoleFile[Targets], role: str
) -> tuple[Role, Mapping[str, Key]]:
    """Return how root or a targets role delegates to `role`, and the keys beside it.

    Raises:
        UnknownTargetError: it does not.
    """
    signed = parent.signed
    if isinstance(signed, Root):
        return signed.roles[role], signed.keys
    delegations = signed.delegations
    if delegations is not None:
        if delegations.roles is not None and role in delegations.roles:
            return delegations.roles[role], delegations.keys
        bins = delegations.succinct_roles
        if bins is not None and bins.is_delegated_role(role):
            return bins, delegations.keys
    raise UnknownTargetError(f"{parent.label} does not delegate to {role}", name=role)


def _require_sound_delegations(file: RoleFile[Targets]) -> None:
    delegations = file.signed.delegations
    if delegations is None:
        return
    keys = delegations.keys
    # Thousands of roles may name one key: each is judged once.
    sound: set[str] = set()
    for name, found in (delegations.roles or {}).items():
        _require_distinct(f"{name} in {file.label}", keys, found.keyids, sound)
    bins = delegations.succinct_roles
    if bins is not None:
        _require_distinct(f"bins in {file.label}", keys, bins.keyids, sound)


def _require_distinct(
    what: str, keys: Mapping[str, Key], keyids: list[str], sound: set[str]
) -> None:
    for keyid in keyids:
        if keyid in sound:
            continue
        key = keys.get(keyid)
        # check 1.4: TUF 4.2, clients must compute key ids
        if key is None or not threshold.keyid_matches(keyid, key):
            raise MalformedError(
                f"key id {keyid[:12]!r} of {what} is not computed from its key"
            )
        sound.add(keyid)
    if len(keyids) < 2:
        return
    twice = threshold.repeated_material(keys, keyids)
    # check 1.5: one key under two ids, refused before anything is believed
    if twice is not None:
        raise ThresholdError(
            f"{what} has one key under two key ids ({twice[0][:12]}, {twice[1][:12]})",
            role=what.split(" ", 1)[0],
            needed=len(keyids),
            valid=len(keyids) - 1,
        )


def _require_bound(name: str, meta: MetaFile) -> None:
    sha256 = (meta.hashes or {}).get("sha256", "")
    if meta.length is None or len(sha256) != 64:
        raise MalformedError(f"{name} is listed without length and sha256")


def _require_issued(file: RoleFile[Any]) -> None:
    if file.issued is None:
        raise MalformedError(f"{file.label} has no {tuf_metadata.ISSUED}")


def _require_named(role: str, data: bytes, meta: MetaFile, by: str) -> None:
    """Check length and every listed hash (TUF 5.5.2, 5.6.2)."""
    from tuf.api.exceptions import LengthOrHashMismatchError

    try:
        meta.verify_length_and_hashes(data)
    except LengthOrHashMismatchError as why:
        raise MixAndMatchError(
            f"{role} is not the file that {by} names: {why}", role=role
        ) from why


def _older(role: str, offered: int, trusted: int) -> RollbackError:
    return RollbackError(
        f"{role} v{offered} is older than trusted v{trusted}",
        role=role,
        trusted=trusted,
        offered=offered,
    )


def _later(floor: TimeFloor | None, signed: Trusted[Any]) -> TimeFloor | None:
    issued = signed.file.issued
    if issued is None or (floor is not None and floor.when >= issued):
        return floor
    return TimeFloor(issued, signed.signers)
