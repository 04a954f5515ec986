"""All trust metadata of a place, read and judged once, with the device's own rules.

Who copies a repository must know that what it copies is whole and current: the
top-level roles must verify and be unexpired. A delegated role that no device would
accept, because its publisher let it expire or signed something odd, costs only its own
applications their content: its file is bound by the snapshot's hash, is copied as it
is, and a warning says so. One publisher can't stop everybody's mirror.

Example:
    >>> found = survey(source, trust=store, clock=clock)
    >>> found.timestamp.version, list(found.roots), list(found.roles)
    (2, ['1.root.json'], ['1.acme.pump-monitor.json', '2.acme.json', '1.targets.json'])
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.authoring.state import LIMITS, AuthorWalk
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    MalformedError,
    MixAndMatchError,
    VerificationError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import target_path
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL, file_name, parse_root
from margo_supplychain.verify.memory import Memory
from margo_supplychain.verify.remote import remote
from margo_supplychain.verify.workflow import Demand, Workflow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tuf.api.metadata import MetaFile, Snapshot, TargetFile, Targets, Timestamp

    from margo_supplychain.formats.names import TargetPath
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore
    from margo_supplychain.verify.workflow import Trusted

STRICT: Final = ("root", "timestamp", "snapshot", "targets")
OCTETS: Final = "application/octet-stream"


class Listed(NamedTuple):
    """One target file as a verified role lists it."""

    role: str
    path: TargetPath
    what: Descriptor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Survey:
    """A whole set of trust metadata, as one verified timestamp names it.

    Args:
        walk: holds every role that devices accept; reads no more metadata.
        before: the memory that it began with.
        held: target files by sha256 for the walk, which then need not be fetched.
        roots: exact bytes of every root, by file name, oldest first.
        roles: exact bytes of every file that the snapshot lists, by file name; what
            delegates comes after what it delegates to.
        warnings: what devices would refuse, one line each.
        withdrawn: paths of releases whose content no device takes, as far as somebody
            asked (`selection`).
        lost: applications whose policy is nowhere, so that their content isn't known.
    """

    walk: AuthorWalk
    before: Memory
    held: dict[str, bytes]
    roots: Mapping[str, bytes]
    roles: Mapping[str, bytes]
    warnings: list[str]
    withdrawn: set[str] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)

    @property
    def timestamp(self) -> Trusted[Timestamp]:
        """The timestamp."""
        return _there(self.walk.workflow.timestamp, "timestamp")

    @property
    def snapshot(self) -> Trusted[Snapshot]:
        """The snapshot."""
        return _there(self.walk.workflow.snapshot, "snapshot")

    @property
    def snapshot_file(self) -> str:
        """The snapshot's file name."""
        return file_name("snapshot", self.snapshot.version)

    def targets(self) -> Iterator[Listed]:
        """Yield every target file once; a malformed entry becomes a warning."""
        seen: set[tuple[str, Digest]] = set()
        for role, one in self.walk.workflow.roles.items():
            for path, file in one.signed.targets.items():
                try:
                    what = descriptor_of(path, file)
                    found = Listed(role, target_path(path), what)
                except FormatError as why:
                    self.warnings.append(f"{one.file.label}: {why}: not copied")
                    continue
                if (path, what.digest) not in seen:
                    seen.add((path, what.digest))
                    yield found


def survey(
    source: Source, *, trust: TrustStore, clock: Clock, unexpired: bool = True
) -> Survey:
    """Read and verify all trust metadata of a place.

    Args:
        source: unverified.
        trust: the root, and what was seen before; it is not changed.
        clock: what expiry is judged by.
        unexpired: whether the top-level roles must not have expired.

    Raises:
        VerificationError: a top-level role does not verify, or has expired; or a file
            is not the one that the snapshot names.
        FetchError: a file is missing, or the source can't be reached.
    """
    held: dict[str, bytes] = {}
    before = trust.load()
    walk = AuthorWalk(before, held.get, source, clock=clock)
    walk.top_level()
    for role in STRICT if unexpired else ():
        expired = walk.expired.get(role)
        if expired is not None:
            raise expired
    warnings: list[str] = []
    reader = _Roles(source, walk, warnings)
    return Survey(
        walk=walk,
        before=before,
        held=held,
        roots=read_roots(source, before.root, walk.workflow.root.version),
        roles=reader.read(),
        warnings=warnings,
    )


def read_roots(source: Source, trusted: bytes, newest: int) -> dict[str, bytes]:
    """Return every root up to `newest`, oldest first: one chain through `trusted`.

    Roots before the trusted one can't be verified from it; that a chain leads from the
    first one to the trusted one is checked, since a device may begin at any of them.

    Args:
        source: unverified.
        trusted: exact bytes of a root that is trusted.
        newest: the version up to which the source is known to hold a good chain.

    Raises:
        VerificationError: the roots are no chain, or not the trusted one's.
        FetchError: one is missing.
    """
    known = parse_root(trusted, limit=LIMITS.root).version
    found: dict[str, bytes] = {}
    chain: Workflow | None = None
    for version in range(1, newest + 1):
        name = file_name("root", version)
        data = trusted
        if version != known:
            data = source.metadata(name, limit=LIMITS.root)
        if chain is None:
            first = Memory(root=data, publishers=None)
            chain = Workflow(first, demand=Demand.MARGO, limits=LIMITS)
            if chain.root.version != version:
                raise MixAndMatchError(
                    f"{source.url} serves root v{chain.root.version} as {name}",
                    role="root",
                )
        else:
            chain.update_root(data)
        found[name] = data
    return found


def descriptor_of(path: str, file: TargetFile) -> Descriptor:
    """Return what a role signs of a target file.

    Raises:
        MalformedError: another hash than sha256, or more bytes than any device reads.
    """
    if set(file.hashes) != {"sha256"}:
        raise MalformedError(f"{path} is signed with other hashes than sha256 alone")
    if file.length > LIMITS.record:
        raise MalformedError(
            f"{path} has {file.length} bytes, more than the {LIMITS.record} that "
            "devices read"
        )
    with remote(path):
        digest = Digest("sha256", file.hashes["sha256"])
        return Descriptor(media_type=OCTETS, digest=digest, size=file.length)


def listed_file(role: str, entry: MetaFile, data: bytes) -> bytes:
    """Return the bytes of a role's file if they are those that the snapshot names.

    Raises:
        MixAndMatchError: they are not.
    """
    expected = (entry.hashes or {}).get("sha256", "")
    found = hashlib.sha256(data).hexdigest()
    if found != expected or len(data) != entry.length:
        raise MixAndMatchError(
            f"{role} v{entry.version} is not the file that the snapshot names",
            role=role,
        )
    return data


class _Roles:
    """Reads every role that a snapshot lists, through whoever delegates to it."""

    def __init__(self, source: Source, walk: AuthorWalk, warnings: list[str]) -> None:
        self._source = source
        self._walk = walk
        self._warnings = warnings
        snapshot = _there(walk.workflow.snapshot, "snapshot")
        self._listed = dict(snapshot.signed.meta)

    def read(self) -> dict[str, bytes]:
        """Return the files by name, what delegates last."""
        walk = self._walk
        pending = [walk.workflow.roles["targets"]]
        seen = {*TOP_LEVEL}
        refused: set[str] = set()
        while pending:
            parent = pending.pop(0)
            for role in _delegated(parent.signed):
                if role in seen or f"{role}.json" not in self._listed:
                    continue
                seen.add(role)
                try:
                    pending.append(walk.role(role, parent.file.role))
                except VerificationError as why:
                    refused.add(role)
                    self._warnings.append(f"devices refuse {role}: {why}")
        self._warnings += [
            f"devices refuse {role}: {why}"
            for role, why in walk.expired.items()
            if role not in STRICT
        ]
        files = self._unjudged(refused)
        for role, one in reversed(walk.workflow.roles.items()):
            files[file_name(role, one.version)] = one.file.data
        return files

    def _unjudged(self, refused: set[str]) -> dict[str, bytes]:
        """Read what is listed and not accepted; nobody needs what nobody delegates."""
        files = {}
        for name, entry in self._listed.items():
            role = name.removesuffix(".json")
            if role in self._walk.workflow.roles:
                continue
            wanted = file_name(role, entry.version)
            limit = min(entry.length or 0, LIMITS.targets)
            try:
                data = self._source.metadata(wanted, limit=limit)
                files[wanted] = listed_file(role, entry, data)
            except (FetchError, MixAndMatchError) as why:
                if role in refused:
                    raise
                self._warnings.append(f"nobody delegates to {role}: not copied: {why}")
        return files


def _delegated(signed: Targets) -> tuple[str, ...]:
    # Hash bins make every application below ambiguous: no device follows them.
    delegations = signed.delegations
    return () if delegations is None else tuple(delegations.roles or ())


def _there(found: Trusted[Any] | None, role: str) -> Trusted[Any]:
    if found is None:
        raise MixAndMatchError(f"there is no {role}", role=role)
    return found
