"""Timestamps that stand beside `timestamp`, each under a name that is written once.

A registry can't compare and swap: a write of `timestamp` that the network held back
comes hours later and undoes what others were told is published. So a publisher is told
only when the same bytes stand under `<version>.timestamp`, too. Every edit looks there
for what `timestamp` does not have in it any more. No device ever asks for these names.

Whoever may push can write there as well, so a name counts only if the keys of timestamp
and snapshot have signed what it holds, with the version that it says. One that somebody
removed is not missed: how far a registry can take an author back is bounded by his
memory, and without one by the expiry of `timestamp`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.errors import ConflictError, FetchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tuf.api.metadata import MetaFile, Snapshot, Timestamp

    from margo_supplychain.authoring.lineage import Lineage
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.formats.tuf_metadata import RoleFile

MOST_LOOKED_AT: Final = 512  # names that may hold anything


class FloodError(ConflictError):
    """More names than can be looked at: what was published may be among the others."""


class Reader(Protocol):
    """What of a place is read here; nothing of it is verified."""

    @property
    def url(self) -> str:
        """What it is called in messages."""

    def versions(self, role: str) -> Sequence[int]:
        """Return the versions of a role whose names are taken, ascending.

        Raises:
            FetchError: there is no list.
        """

    def written(self, role: str, version: int) -> bytes | None:
        """Return what has a versioned name; see `Place.written`."""

    def named(self, role: str, entry: MetaFile) -> bytes:
        """Return exactly the file that is named; see `Place.named`."""


class Published(NamedTuple):
    """What some publisher was told, or devices see: a timestamp and its snapshot."""

    timestamp: RoleFile[Timestamp]
    snapshot: RoleFile[Snapshot]


class Keys(NamedTuple):
    """Who may sign timestamp and snapshot."""

    timestamp: RoleSigners
    snapshot: RoleSigners


class Found(NamedTuple):
    """How `timestamp` stands among its witnesses.

    Args:
        apart: those whose work it does not have in it, newest first.
        version: the highest version of all.
        newest: the witness of that version, if it has one.
        is_witnessed: whether it has a witness of its own.
        is_behind: whether devices may have seen a newer one, or another of its version.
    """

    apart: tuple[Published, ...]
    version: int
    newest: Published | None
    is_witnessed: bool
    is_behind: bool


def witnesses(place: Reader, keys: Keys, *, above: int = 0) -> Iterator[Published]:
    """Yield the witnesses of a place that verify, newest first.

    Args:
        place: where.
        keys: who may sign them.
        above: a version; those above it are looked at.

    Raises:
        FloodError: more names than can be looked at.
        FetchError: the place does not answer.
    """
    for version, data in bounded(
        place, "timestamp", [one for one in place.versions("timestamp") if one > above]
    ):
        timestamp = signed_by(data, keys.timestamp)
        if timestamp is None or timestamp.version != version:
            continue
        named = timestamp.signed.snapshot_meta
        try:
            there = place.named("snapshot", named)
        except FetchError as why:
            if why.unreachable:
                raise
            continue
        snapshot = signed_by(there, keys.snapshot)
        if snapshot is not None and snapshot.version == named.version:
            yield Published(timestamp, snapshot)


def bounded(
    place: Reader, role: str, versions: Sequence[int]
) -> Iterator[tuple[int, bytes]]:
    """Yield what has each versioned name, newest first.

    Raises:
        FloodError: more names than can be looked at.
    """
    for count, version in enumerate(sorted(versions, reverse=True)):
        if count >= MOST_LOOKED_AT:
            raise FloodError(
                f"{place.url} has {len(versions)} names of {role} that nothing leads "
                f"to, and only {MOST_LOOKED_AT} are looked at",
                hint="somebody who may push there wrote them: remove those tags with "
                "the registry's own tools, and find out who it was",
            )
        data = place.written(role, version)
        if data is not None:
            yield version, data


def compare(place: Reader, current: Published, keys: Keys, lineage: Lineage) -> Found:
    """Look for what was published, and is not in what `timestamp` names.

    Ends at the first witness that is in it and is not newer: what was there then was
    looked at then.

    Raises:
        FloodError, FetchError: see `witnesses`.
    """
    ours = current.timestamp
    apart: list[Published] = []
    newest: Published | None = None
    is_witnessed, is_behind = False, False
    for one in witnesses(place, keys):
        theirs = one.timestamp
        newest = newest or one
        if theirs.version > ours.version or (
            theirs.version == ours.version and theirs.sha256 != ours.sha256
        ):
            is_behind = True
        is_witnessed = is_witnessed or theirs.sha256 == ours.sha256
        if not lineage.contains(current.snapshot, one.snapshot):
            apart.append(one)
        elif theirs.version <= ours.version:
            break
    version = ours.version if newest is None else newest.timestamp.version
    return Found(
        apart=_furthest(apart, lineage),
        version=max(version, ours.version),
        newest=newest,
        is_witnessed=is_witnessed,
        is_behind=is_behind,
    )


def _furthest(found: Sequence[Published], lineage: Lineage) -> tuple[Published, ...]:
    """Leave out those whose work is in another of them."""
    furthest: list[Published] = []
    for one in found:
        if not any(lineage.contains(kept.snapshot, one.snapshot) for kept in furthest):
            furthest = [
                kept
                for kept in furthest
                if not lineage.contains(one.snapshot, kept.snapshot)
            ]
            furthest.append(one)
    return tuple(furthest)
