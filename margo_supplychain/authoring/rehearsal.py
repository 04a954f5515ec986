"""What devices would make of an edit, asked of the device's own code beforehand.

Two devices look at the staged files: a fresh one that starts from the first root, and
one that holds the state before the edit (and whatever the author's memory knows). Both
must accept the trust metadata, follow each changed application to its one role, read
its policy, and resolve and fetch each new release, which proves what its publisher
demands. Expired is refused here. A role that neither changed nor has another delegator
was judged when the edit began, at this very time, and is not judged twice more.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.attested import read_envelope
from margo_supplychain.authoring.roles import delegator_of, kind_of
from margo_supplychain.authoring.state import LIMITS, OnceWalk
from margo_supplychain.errors import MixAndMatchError, SupplyChainError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.verify import artifact, chain, offline_role, resolve
from margo_supplychain.verify.clock import StoppedClock
from margo_supplychain.verify.limits import Budget
from margo_supplychain.verify.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from typing import Literal

    from tuf.api.metadata import Targets

    from margo_supplychain.authoring.overlay import Overlay
    from margo_supplychain.authoring.state import Judgement, State
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.transport.protocols import Source
    from margo_supplychain.verify.proof import Proof
    from margo_supplychain.verify.refresh import Walk
    from margo_supplychain.verify.workflow import Trusted


class Subjects(NamedTuple):
    """What an edit changed.

    Args:
        roles: targets roles that were signed, here or by others.
        applications: application → its new versions, which may be none.
        proving: those of them that must prove how they were made.
        summarised: versions of which a summary must stand for the whole proof.
    """

    roles: tuple[str, ...]
    applications: dict[ReleaseName, frozenset[Version]]
    proving: frozenset[tuple[ReleaseName, Version]] = frozenset()
    summarised: frozenset[tuple[ReleaseName, Version]] = frozenset()

    @classmethod
    def of(cls, work: Work) -> Subjects:
        """Return the subjects of an edit."""
        return cls(
            (*work.changes.touched, *work.adopted),
            {
                name: frozenset(work.releases.get(name, ()))
                for name in sorted(work.applications, key=str)
                # Its new keys sign later, and devices refuse it until then.
                if not work.changes.is_refused(name.role)
            },
            _pairs(work, work.proving),
            _pairs(work, work.summarised),
        )


def rehearse_creation(
    overlay: Overlay, root: bytes, subjects: Subjects, *, now: datetime
) -> None:
    """Let a device that knows the root alone judge a repository's first files.

    Raises:
        SupplyChainError: as the device finds; nothing was written.
    """
    device = Device("a fresh device", Memory(root=root, publishers=None))
    _rehearse(device, {}, overlay, subjects, now)


def rehearse_edit(
    overlay: Overlay, state: State, subjects: Subjects, *, now: datetime
) -> Walk:
    """Let a fresh device, and one that holds the state before, judge what is staged.

    Returns:
        What the second one accepted.

    Raises:
        SupplyChainError: as a device finds; nothing was written.
    """
    accepted = state.walk.unexpired()
    fresh = Memory(root=state.first_root, publishers=None)
    device = Device("a fresh device", fresh)
    _rehearse(device, accepted, overlay, subjects, now)
    device = holder_of(state, "a device with the previous state")
    return _rehearse(device, accepted, overlay, subjects, now)


def rehearse_root(
    overlay: Overlay, devices: Iterable[Device], *, version: int, now: datetime
) -> None:
    """Let devices judge a new root, with all that is staged for it.

    Args:
        overlay: the place as it would be.
        devices: each of them must reach that root.
        version: the root's.
        now: when.

    Raises:
        SupplyChainError: as a device finds; nothing was written.
    """
    accepted: Mapping[Judgement, Trusted[Targets]] = {}
    for device in devices:
        walk = _rehearse(device, accepted, overlay, Subjects((), {}), now)
        accepted = walk.accepted_roles
        reached = walk.workflow.root.version
        if reached != version:
            raise MixAndMatchError(
                f"{device.who} stops at root v{reached} and never sees root v{version}",
                role="root",
                hint=f"nothing was written: bring {file_name('root', reached + 1)} "
                "back, from a backup or another copy (`repo check --repair`)",
            )


class Device(NamedTuple):
    """One device that judges what is staged.

    Args:
        who: what messages call it.
        memory: what it holds.
        copies: its files, by role.
    """

    who: str
    memory: Memory
    copies: Mapping[str, bytes] = MappingProxyType({})


def holder_of(state: State, who: str) -> Device:
    """Return a device that has accepted all of a state."""
    workflow = state.walk.workflow
    copies = {role: one.file.data for role, one in workflow.roles.items()}
    copies["timestamp"] = state.timestamp.file.data
    copies["snapshot"] = state.snapshot.file.data
    return Device(who, workflow.complete(), copies)


def _rehearse(
    device: Device,
    accepted: Mapping[Judgement, Trusted[Targets]],
    overlay: Overlay,
    subjects: Subjects,
    now: datetime,
) -> OnceWalk:
    def copy_of(role: str) -> bytes | None:
        return device.copies.get(role)

    walk = OnceWalk(
        device.memory, copy_of, overlay, clock=StoppedClock(now), accepted=accepted
    )
    try:
        walk.top_level()
        for role in subjects.roles:
            if kind_of(role) == "publisher":
                walk.role(role, delegator_of(role))
        for name, versions in subjects.applications.items():
            judge(walk, overlay, device.memory, name, versions)
        for name, version in sorted(subjects.proving, key=str):
            prove_release(walk, overlay, name, version)
        for name, version in sorted(subjects.summarised, key=str):
            prove_release(walk, overlay, name, version, tier="summary")
    except SupplyChainError as why:
        why.hint = f"nothing was written: {device.who} would refuse the result"
        raise
    return walk


def prove_release(
    walk: Walk,
    source: Source,
    name: ReleaseName,
    version: Version,
    *,
    tier: Literal["full", "summary"] = "full",
) -> Proof:
    """Judge how a listed release was made, as a device does; resolve nothing.

    What names a layout is judged by it, also where the publisher demands nothing: some
    device's owner may.

    Args:
        walk: has accepted the top level.
        source: holds its attestations.
        name, version: which one.
        tier: what the device looks at.

    Raises:
        ProvenanceError, AttestationError: it does not prove what is demanded; the
            error has the trace.
        SupplyChainError: something that this takes can't be read.
    """
    found = chain.follow(walk, name)
    listed = resolve.listed(found.deciding.signed, name)
    chosen = next(one for one in listed if one.version == version)
    record = artifact.fetch_record(walk, name, chosen, LIMITS)
    policy = offline_role.publisher_policy(walk, found, name, LIMITS)
    return prove_record(walk, found, policy, source, chosen, record, tier=tier)


def prove_record(
    walk: Walk,
    found: chain.Chain,
    policy: PublisherPolicy,
    source: Source,
    chosen: resolve.Candidate,
    record: ReleaseRecord,
    *,
    tier: Literal["full", "summary"] = "full",
) -> Proof:
    """Judge how a release was made whose record is at hand; see `prove_release`."""
    from margo_supplychain.verify.policy import ProvenanceDemand
    from margo_supplychain.verify.proof import prove

    return prove(
        walk,
        found,
        record.name,
        policy,
        record,
        record_digest=Digest("sha256", chosen.file.hashes["sha256"]),
        entry=chosen.entry,
        demand=ProvenanceDemand(required=record.layout is not None, tier=tier),
        read=lambda what: read_envelope(source, what),
        limits=LIMITS,
    )


def judge(
    walk: Walk,
    overlay: Overlay,
    memory: Memory,
    name: ReleaseName,
    versions: frozenset[Version],
) -> None:
    """Follow one application, and resolve and fetch some of its releases.

    Raises:
        SupplyChainError: as a device finds.
    """
    if not versions and not _was_signed(walk, name):
        return
    found = chain.follow(walk, name)
    policy = offline_role.publisher_policy(walk, found, name, LIMITS)
    candidates = resolve.listed(found.deciding.signed, name)
    digests = resolve.withdrawn_in(candidates)
    remembered = memory.with_withdrawn(name, digests, found.deciding.version)
    standing = resolve.Standing(
        policy=policy,
        floor=None,
        slot="default",
        withdrawn=remembered.withdrawn.get(name, {}),
    )
    for version in sorted(versions):
        chosen = resolve.select(name, Pin.exact(version), candidates, standing)
        record = artifact.fetch_record(walk, name, chosen, LIMITS)
        artifact.fetch_manifest(
            record, overlay, lambda _: None, limits=LIMITS, budget=Budget(None)
        )


def _pairs(
    work: Work, found: Mapping[ReleaseName, Iterable[Version]]
) -> frozenset[tuple[ReleaseName, Version]]:
    return frozenset(
        (name, version)
        for name, versions in found.items()
        if not work.changes.is_refused(name.role)
        for version in versions
    )


def _was_signed(walk: Walk, name: ReleaseName) -> bool:
    # An application's role is signed with its first release; until then there is a
    # delegation, and nothing to follow it to.
    snapshot = walk.workflow.snapshot
    delegations = walk.workflow.roles["targets"].signed.delegations
    if snapshot is None or delegations is None or not delegations.roles:
        return True
    return f"{name.role}.json" in snapshot.signed.meta
