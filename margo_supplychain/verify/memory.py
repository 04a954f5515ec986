"""The device's memory: what it must never forget, as one immutable value.

Floors below which nothing is accepted, each with the key material that earned it, and
when they fall (TUF 5.3.11). Pure: no disk, no clock, no network;
`trust_store` keeps it. The file form is one line of sha256 and one JSON object.

Example:
    >>> Memory.from_bytes(memory.to_bytes()) == memory  # doctest: +SKIP
    True
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeVar

from margo_supplychain.errors import BudgetError, FormatError, MetadataFormatError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import (
    ReleaseName,
    publisher_name,
    slot_name,
)
from margo_supplychain.formats.times import format_time, parse_time
from margo_supplychain.formats.versions import Version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from margo_supplychain.formats.publisher_policy import Reinstatement

FORMAT: Final = 1
LIMIT: Final = 64 << 20  # bytes
# Of one application: more would let the thief of its key fill the memory.
MAX_WITHDRAWN: Final = 10_000
MAX_FETCHED: Final = 256  # releases that may be confirmed; the oldest is forgotten


class FileFloor(NamedTuple):
    """Version and sha256 of the newest accepted file of a role."""

    version: int
    sha256: str | None


class TimestampFloor(NamedTuple):
    """The newest accepted timestamp; falls with timestamp's keys alone."""

    version: int
    sha256: str
    snapshot_version: int
    signers: frozenset[str]


class SnapshotFloor(NamedTuple):
    """The newest accepted snapshot with every version it lists.

    All of it falls together, with snapshot's keys only: otherwise the thief of a
    timestamp key could roll the roles back after a routine rotation.
    """

    version: int
    sha256: str
    roles: Mapping[str, FileFloor]
    signers: frozenset[str]


class TimeFloor(NamedTuple):
    """A signed time (`x-issued`) and the key material that signed it."""

    when: datetime
    signers: frozenset[str]


_Floor = TypeVar("_Floor", TimestampFloor, SnapshotFloor, TimeFloor)


class ReleaseFloor(NamedTuple):
    """What a slot was confirmed to run; nothing older may be installed there.

    Args:
        epoch: the publisher policy's epoch when it was fetched.
        version: the confirmed version.
        artifact: the confirmed artifact's digest.
        policy_signers: the material that signed the publisher role then. When it no
            longer meets the delegator's threshold, `epoch` reads as today's.
        serial: number of the commit that set it: a floor that went and came back is
            another floor.
    """

    epoch: int
    version: Version
    artifact: Digest
    policy_signers: frozenset[str]
    serial: int = 0


class FetchedRelease(NamedTuple):
    """A release whose content this device fetched whole, and so may confirm.

    Args:
        slot: the slot that it was verified for.
        passed: the floor that it was verified against. As long as that stands,
            confirming does not refuse what verifying allowed.
    """

    name: ReleaseName
    version: Version
    artifact: Digest
    epoch: int
    policy_signers: frozenset[str]
    slot: str
    passed: ReleaseFloor | None = None

    def floor(self, serial: int) -> ReleaseFloor:
        """Return the floor that confirming it in commit `serial` sets."""
        return ReleaseFloor(
            epoch=self.epoch,
            version=self.version,
            artifact=self.artifact,
            policy_signers=self.policy_signers,
            serial=serial,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Everything that must outlive a power cut.

    Args:
        root: exact bytes of the trusted root.
        publishers: the publishers that this repository may speak for; None, which is
            never written down, means anybody.
        withdrawn: application → artifact digest → newest version of the deciding role
            in which it was seen withdrawn.
        epochs: application → the policy's epoch since which its withdrawals count.
        reinstated: what the newest publisher policy said of those artifacts: up to
            which version of that role withdrawals are void.
        releases: slot → application → floor.
        fetched: newest last.
        sequence: counts commits; the newer of two good copies wins.
    """

    root: bytes
    publishers: frozenset[str] | None
    timestamp: TimestampFloor | None = None
    snapshot: SnapshotFloor | None = None
    root_time: TimeFloor | None = None
    timestamp_time: TimeFloor | None = None
    releases: Mapping[str, Mapping[ReleaseName, ReleaseFloor]] = field(
        default_factory=dict
    )
    withdrawn: Mapping[ReleaseName, Mapping[Digest, int]] = field(default_factory=dict)
    epochs: Mapping[ReleaseName, int] = field(default_factory=dict)
    reinstated: Mapping[ReleaseName, Mapping[Digest, int]] = field(default_factory=dict)
    fetched: tuple[FetchedRelease, ...] = ()
    sequence: int = 0

    def __post_init__(self) -> None:
        # check 0.7: an empty list never passes, and never means everybody
        if self.publishers is not None and not self.publishers:
            raise MetadataFormatError("the memory names no publisher")

    @property
    def time_floor(self) -> datetime | None:
        """The latest signed time that still counts."""
        known = [one.when for one in (self.root_time, self.timestamp_time) if one]
        return max(known, default=None)

    def without_fallen(
        self, still_trusted: Callable[[str, frozenset[str]], bool]
    ) -> Self:
        """Return the memory without the floors whose signers lost their role.

        Args:
            still_trusted: says whether signers, by material, would meet the threshold
                of a top-level role in the root that is trusted now.
        """

        def kept(role: str, floor: _Floor | None) -> _Floor | None:
            if floor is None or still_trusted(role, floor.signers):
                return floor
            return None

        return replace(
            self,
            timestamp=kept("timestamp", self.timestamp),
            timestamp_time=kept("timestamp", self.timestamp_time),
            root_time=kept("root", self.root_time),
            snapshot=kept("snapshot", self.snapshot),
        )

    def floor(self, name: ReleaseName, slot: str) -> ReleaseFloor | None:
        """Return the floor of an application in a slot.

        A slot without one of its own takes the lowest floor of the device's other
        slots: a fresh slot is no way below what every instance here has outgrown.
        """
        own = self.releases.get(slot, {}).get(name)
        if own is not None:
            return own
        others = [floors[name] for floors in self.releases.values() if name in floors]
        return min(others, key=lambda one: (one.epoch, one.version), default=None)

    def with_floor(self, name: ReleaseName, slot: str, floor: ReleaseFloor) -> Self:
        """Return the memory with a slot's floor set."""
        slots = dict(self.releases)
        slots[slot] = {**slots.get(slot, {}), name: floor}
        return replace(self, releases=slots)

    def with_epoch(self, name: ReleaseName, epoch: int) -> Self:
        """Return the memory after the offline key began a new epoch.

        A higher epoch undoes what a stolen application key listed: withdrawals of
        artifacts that this device never fetched are forgotten, or a flood of them would
        bar honest ones for ever. Everything of the old epoch is below the new minimum.
        """
        known = self.epochs.get(name, 0)
        if epoch <= known:
            return self
        epochs = {**self.epochs, name: epoch}
        seen = self.withdrawn.get(name, {})
        if known == 0 or not seen:
            return replace(self, epochs=epochs)
        mine = {one.artifact for one in self.fetched if one.name == name}
        mine |= {
            floors[name].artifact for floors in self.releases.values() if name in floors
        }
        kept = {digest: version for digest, version in seen.items() if digest in mine}
        withdrawn = {**self.withdrawn, name: kept}
        return replace(self, epochs=epochs, withdrawn=withdrawn)

    def with_withdrawn(
        self, name: ReleaseName, digests: frozenset[Digest], role_version: int
    ) -> Self:
        """Return the memory with artifacts seen withdrawn in a role's version.

        Raises:
            BudgetError: more than `MAX_WITHDRAWN` of one application. Forgetting one
                would let it come back; the application is refused instead.
        """
        known = dict(self.withdrawn.get(name, {}))
        for digest in digests:
            known[digest] = max(role_version, known.get(digest, 0))
        # check 2.21: the memory stays small whatever a stolen key lists
        if len(known) > MAX_WITHDRAWN:
            raise BudgetError(
                f"{name} has more than {MAX_WITHDRAWN} withdrawn releases",
                hint="report it to the publisher; its application key may be stolen",
            )
        if known == self.withdrawn.get(name, {}):
            return self
        return replace(self, withdrawn={**self.withdrawn, name: known})

    def with_reinstated(
        self, name: ReleaseName, reinstated: Iterable[Reinstatement]
    ) -> Self:
        """Return the memory with what the newest publisher policy reinstates."""
        seen = self.withdrawn.get(name, {})
        known = {one.artifact: one.up_to for one in reinstated if one.artifact in seen}
        if known == self.reinstated.get(name, {}):
            return self
        return replace(self, reinstated={**self.reinstated, name: known})

    def stands_withdrawn(self, name: ReleaseName, artifact: Digest) -> bool:
        """Say whether a withdrawal that was seen stands, by the newest policy seen."""
        seen = self.withdrawn.get(name, {}).get(artifact)
        if seen is None:
            return False
        return seen > self.reinstated.get(name, {}).get(artifact, 0)

    def with_fetched(self, release: FetchedRelease) -> Self:
        """Return the memory with one more release that may be confirmed."""
        others = tuple(
            one
            for one in self.fetched
            if (one.name, one.artifact, one.slot)
            != (release.name, release.artifact, release.slot)
        )
        kept = (*others, release)
        if len(kept) > MAX_FETCHED:
            # What a slot runs needs no entry: its floor says that it was confirmed.
            kept = tuple(one for one in kept if not self._runs(one))
        return replace(self, fetched=kept[-MAX_FETCHED:])

    def _runs(self, release: FetchedRelease) -> bool:
        floor = self.releases.get(release.slot, {}).get(release.name)
        return floor is not None and floor.artifact == release.artifact

    # --- file form -------------------------------------------------------------------

    def to_bytes(self) -> bytes:
        """Return the checksummed file form."""
        if self.publishers is None:
            raise ValueError("a memory for anybody is not written down")
        body = strict_json.canonical(_encode(self, self.publishers))
        data = hashlib.sha256(body).hexdigest().encode() + b"\n" + body
        # check 0.6: a memory that can't be read back is never written
        if len(body) > LIMIT or not self._reads_back(data):
            raise BudgetError(
                f"the memory would have {len(body)} bytes (at most {LIMIT}), or could "
                "not be read back; the old one is kept"
            )
        return data

    def _reads_back(self, data: bytes) -> bool:
        try:
            return Memory.from_bytes(data) == self
        except FormatError:
            return False

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Parse the file form.

        Raises:
            FormatError: if the checksum does not match or a field is wrong.
        """
        checksum, newline, body = data.partition(b"\n")
        if (
            not newline
            or checksum.decode("ascii", "replace") != hashlib.sha256(body).hexdigest()
        ):
            raise MetadataFormatError("the memory's checksum does not match its bytes")
        raw = strict_json.parse(body, what="memory", limit=LIMIT)
        if raw.get("format") != FORMAT:
            raise MetadataFormatError(
                f"the memory has format {raw.get('format')!r:.40}, expected {FORMAT}"
            )
        try:
            return cls(**_decode(raw))
        except (KeyError, TypeError, ValueError, AttributeError) as why:
            raise MetadataFormatError(
                f"the memory is incomplete: {why!r:.120}"
            ) from why


def _encode(memory: Memory, publishers: frozenset[str]) -> dict[str, Any]:
    timestamp, snapshot = memory.timestamp, memory.snapshot
    return {
        "format": FORMAT,
        "sequence": memory.sequence,
        "root": base64.b64encode(memory.root).decode(),
        "publishers": sorted(publishers),
        "timestamp": timestamp
        and {
            "version": timestamp.version,
            "sha256": timestamp.sha256,
            "snapshot": timestamp.snapshot_version,
            "signers": sorted(timestamp.signers),
        },
        "snapshot": snapshot
        and {
            "version": snapshot.version,
            "sha256": snapshot.sha256,
            "roles": {
                role: [one.version, one.sha256] for role, one in snapshot.roles.items()
            },
            "signers": sorted(snapshot.signers),
        },
        "times": {
            "root": _encode_time(memory.root_time),
            "timestamp": _encode_time(memory.timestamp_time),
        },
        "releases": {
            slot: {str(name): _encode_floor(one) for name, one in floors.items()}
            for slot, floors in memory.releases.items()
        },
        "withdrawn": _encode_digests(memory.withdrawn),
        "epochs": {str(name): epoch for name, epoch in memory.epochs.items()},
        "reinstated": _encode_digests(memory.reinstated),
        "fetched": [
            {
                "name": str(one.name),
                "version": str(one.version),
                "artifact": str(one.artifact),
                "epoch": one.epoch,
                "slot": one.slot,
                "policySigners": sorted(one.policy_signers),
                "passed": _encode_floor(one.passed) if one.passed else None,
            }
            for one in memory.fetched
        ],
    }


def _encode_floor(floor: ReleaseFloor) -> dict[str, Any]:
    return {
        "epoch": floor.epoch,
        "version": str(floor.version),
        "artifact": str(floor.artifact),
        "policySigners": sorted(floor.policy_signers),
        "serial": floor.serial,
    }


def _decode_floor(raw: dict[str, Any]) -> ReleaseFloor:
    return ReleaseFloor(
        epoch=_whole(raw["epoch"]),
        version=Version.parse(raw["version"]),
        artifact=Digest.parse(raw["artifact"]),
        policy_signers=frozenset(raw["policySigners"]),
        serial=_whole(raw["serial"]),
    )


def _encode_digests(
    found: Mapping[ReleaseName, Mapping[Digest, int]],
) -> dict[str, dict[str, int]]:
    return {
        str(name): {str(digest): version for digest, version in seen.items()}
        for name, seen in found.items()
    }


def _decode_digests(raw: dict[str, Any]) -> dict[ReleaseName, dict[Digest, int]]:
    return {
        ReleaseName.parse(name): {
            Digest.parse(digest): _whole(version) for digest, version in seen.items()
        }
        for name, seen in raw.items()
    }


def _encode_time(floor: TimeFloor | None) -> dict[str, Any] | None:
    if floor is None:
        return None
    return {"when": format_time(floor.when), "signers": sorted(floor.signers)}


def _decode(raw: dict[str, Any]) -> dict[str, Any]:
    timestamp, snapshot = raw["timestamp"], raw["snapshot"]
    return {
        "sequence": _whole(raw["sequence"]),
        "root": base64.b64decode(raw["root"], validate=True),
        "publishers": frozenset(publisher_name(one) for one in raw["publishers"]),
        "timestamp": timestamp
        and TimestampFloor(
            version=_whole(timestamp["version"]),
            sha256=_text(timestamp["sha256"]),
            snapshot_version=_whole(timestamp["snapshot"]),
            signers=frozenset(timestamp["signers"]),
        ),
        "snapshot": snapshot
        and SnapshotFloor(
            version=_whole(snapshot["version"]),
            sha256=_text(snapshot["sha256"]),
            roles={
                role: FileFloor(_whole(version), sha256)
                for role, (version, sha256) in snapshot["roles"].items()
            },
            signers=frozenset(snapshot["signers"]),
        ),
        "root_time": _decode_time(raw["times"]["root"]),
        "timestamp_time": _decode_time(raw["times"]["timestamp"]),
        "releases": {
            slot_name(slot): {
                ReleaseName.parse(name): _decode_floor(one)
                for name, one in floors.items()
            }
            for slot, floors in raw["releases"].items()
        },
        "withdrawn": _decode_digests(raw["withdrawn"]),
        "epochs": {
            ReleaseName.parse(name): _whole(epoch)
            for name, epoch in raw["epochs"].items()
        },
        "reinstated": _decode_digests(raw["reinstated"]),
        "fetched": tuple(
            FetchedRelease(
                name=ReleaseName.parse(one["name"]),
                version=Version.parse(one["version"]),
                artifact=Digest.parse(one["artifact"]),
                epoch=_whole(one["epoch"]),
                slot=slot_name(one["slot"]),
                policy_signers=frozenset(one["policySigners"]),
                passed=_decode_floor(one["passed"]) if one["passed"] else None,
            )
            for one in raw["fetched"]
        ),
    }


def _decode_time(raw: dict[str, Any] | None) -> TimeFloor | None:
    if raw is None:
        return None
    when = parse_time(raw["when"], what="time floor")
    return TimeFloor(when, frozenset(raw["signers"]))


def _whole(value: object) -> int:
    if type(value) is not int or value < 0:
        raise FormatError(f"the memory holds {value!r:.40}, expected a whole number")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise FormatError(f"the memory holds {value!r:.40}, expected text")
    return value
