"""The device's decision: may exactly this software run here?

The verification plan, numbered once; each block below carries its number.

    0  store and clock     the memory is whole; the clock is read once
    1  trust metadata      TUF: root chain, time, timestamp, snapshot, delegations
    2  resolve             the deciding role's list, the pin, floors, withdrawals
    3  record, manifest    exact bytes by digest, agreeing with their path
    4  provenance          how it was made, as far as anybody demands it
    5  policy              the publisher's, then the device's: every violation
    6  content             every blob, archives, the application description
    8  evidence            a report for yes and for no

Steps 0 to 5 give `VerifiedRelease`, 6 `VerifiedContent`. A failed step changes nothing
beyond newer valid metadata. Looking never raises a release floor: only
`confirm_running` does.

Example:
    >>> release = verifier.verify(  # doctest: +SKIP
    ...     ReleaseName.parse("acme/pump-monitor"), Pin.range("^1.0", grammar="npm"))
"""

from __future__ import annotations

from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from margo_supplychain.errors import (
    ClockError,
    ConflictError,
    PolicyError,
    ProvenanceError,
    ReleaseFloorError,
    SupplyChainError,
    UnknownTargetError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import slot_name
from margo_supplychain.formats.times import format_time
from margo_supplychain.verify import artifact, chain, offline_role, resolve
from margo_supplychain.verify.clock import (
    Freshness,
    Moment,
    StoppedClock,
    SystemClock,
)
from margo_supplychain.verify.limits import Budget, Limits
from margo_supplychain.verify.memory import FetchedRelease, Memory, ReleaseFloor
from margo_supplychain.verify.policy import Facts, judge
from margo_supplychain.verify.refresh import Walk
from margo_supplychain.verify.results import SEAL, VerifiedContent, VerifiedRelease
from margo_supplychain.verify.trace import Trace
from margo_supplychain.verify.workflow import Demand

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from pathlib import Path

    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.reports import Report
    from margo_supplychain.transport.protocols import ContentSources, Source
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.limits import Control
    from margo_supplychain.verify.policy import Policy
    from margo_supplychain.verify.proof import Proof
    from margo_supplychain.verify.trust_store import TrustStore

T = TypeVar("T")

# Each try that loses finds the winner's newer state; nobody loses for ever.
_TRIES: Final = 16
_DEFAULT_LIMITS: Final = Limits()
_SYSTEM_CLOCK: Final = SystemClock()


@final
class Verifier:
    """Decides for one device and one trusted repository. Thread-safe, and silent.

    Args:
        store: what the device remembers of the repository.
        source: where its trust metadata comes from.
        content: where releases' content may lie.
        policy: the device owner's demands.
        clock: the time; the machine's by default.
        limits: sizes and counts; can only be lowered.
    """

    def __init__(
        self,
        *,
        store: TrustStore,
        source: Source,
        content: ContentSources,
        policy: Policy,
        clock: Clock = _SYSTEM_CLOCK,
        limits: Limits = _DEFAULT_LIMITS,
    ) -> None:
        self._store = store
        self._source = source
        self._content = content
        self._policy = policy
        self._clock = clock
        self._limits = limits

    # --- step 1 alone ----------------------------------------------------------------

    def refresh(self, *, control: Control | None = None) -> Freshness:
        """Bring the top-level trust metadata up to date.

        Raises:
            VerificationError, InconclusiveError: as step 1 finds.
        """
        trace = Trace(f"refresh of {self._source.url}")
        try:
            walk, _, _ = self._trust(None, Budget(control), trace, lambda _: None)
        except SupplyChainError as error:
            trace.attach(error)
            raise
        return _freshness(walk)

    # --- steps 0 to 5 ----------------------------------------------------------------

    def verify(
        self,
        name: ReleaseName,
        pin: Pin,
        *,
        slot: str = "default",
        summary: bytes | None = None,
        control: Control | None = None,
    ) -> VerifiedRelease:
        """Return the highest release inside `pin` that may run here now.

        Content is not fetched yet: `fetch` does, and checks it.

        Args:
            name: publisher and application.
            pin: the versions that the device's owner agrees to.
            slot: which instance on this device; comes from the device's own
                configuration, never from a deployment.
            summary: a signed verification summary of the release, unverified; looked
                at only where a policy takes one for the chain.
            control: budget and callbacks of this call.

        Raises:
            VerificationError: no; `.code` says which check, `.report` how far it came.
            InconclusiveError: could not tell; keep what runs and try again.
        """
        trace = Trace(f"{name} {pin}")
        try:
            return self._verify(
                name, pin, slot_name(slot), Budget(control), trace, summary
            )
        except SupplyChainError as error:
            trace.attach(error)
            raise

    def _verify(
        self,
        name: ReleaseName,
        pin: Pin,
        slot: str,
        budget: Budget,
        trace: Trace,
        summary: bytes | None,
    ) -> VerifiedRelease:
        def follow(walk: Walk) -> tuple[Chain, PublisherPolicy]:
            found = chain.follow(walk, name)
            return found, offline_role.publisher_policy(walk, found, name, self._limits)

        walk, (found, policy), memory = self._trust(name, budget, trace, follow)

        # 2: resolve the pin in the deciding role's own list
        with trace.step(2) as facts:
            candidates = resolve.listed(found.deciding.signed, name)
            facts["listed"] = len(candidates)
            memory = self._remember_withdrawn(name, found, policy, candidates, memory)
            passed = memory.floor(name, slot)
            standing = resolve.Standing(
                policy=policy,
                floor=offline_role.floor_today(walk, found, passed, policy),
                slot=slot,
                withdrawn=memory.withdrawn.get(name, {}),
            )
            chosen = resolve.select(name, pin, candidates, standing)
            facts["version"] = str(chosen.version)
            facts["passed over"] = [
                f"{version}: {reason}"
                for version, reason in resolve.passed_over(
                    chosen, pin, candidates, standing
                )
            ]
            facts["newest"] = str(candidates[0].version)

        # 3: the record and the manifest, exact bytes by digest
        with trace.step(3) as facts:
            record = artifact.fetch_record(walk, name, chosen, self._limits)
            data = artifact.fetch_manifest(
                record,
                self._content,
                partial(self._store.copy_for, name),
                limits=self._limits,
                budget=budget,
            )
            manifest = {record.artifact.digest.hex: data}
            self._store.keep_copies(name, _small_files(walk) | manifest)
            facts["release"] = f"{name}@{record.version}"
            facts["record path"] = record.path
            facts["record"] = chosen.file.hashes["sha256"]
            facts["publisher policy"] = offline_role.policy_file(found, name)
            facts["artifact"] = str(record.artifact.digest)

        # 4: provenance
        with trace.step(4) as facts:
            facts["provenance"] = "none"
            demand, proof = self._policy.demand_for(name), None
            # check 4.1 (instead: is_asked = False): whoever demands it, it is judged
            is_asked = policy.asks_provenance or demand.asks
            if is_asked:
                from margo_supplychain.verify.proof import prove

                judge_chain = partial(
                    prove,
                    walk,
                    found,
                    name,
                    policy,
                    record,
                    record_digest=Digest("sha256", chosen.file.hashes["sha256"]),
                    entry=chosen.entry,
                    demand=demand,
                    limits=self._limits,
                    summary=summary,
                )
                proof = self._proven(judge_chain, walk, record, budget, facts)

        # 5: policy, the publisher's (in 2 and 4) and the device's
        with trace.step(5) as facts:
            facts["profile"] = found.profile
            self._judge(
                Facts(
                    name=name,
                    record=record,
                    publisher_policy=policy,
                    profile=found.profile,
                    signers={one.file.role: len(one.signers) for one in found.roles},
                    freshness=_freshness(walk),
                    age=_age(walk),
                    moment=walk.workflow.moment,
                    proof=proof,
                )
            )

        # 8: evidence
        return VerifiedRelease(
            name=name,
            version=record.version,
            manifest=record.artifact,
            components=MappingProxyType(
                {f"{one.profile}/{one.name}": one.content for one in record.components}
            ),
            newest=candidates[0].version,
            freshness=_freshness(walk),
            report=trace.report("verified", "verified"),
            record=record,
            slot=slot,
            epoch=policy.epoch,
            policy_signers=found.offline.signers,
            passed=passed,
            store=self._store.where,
            seal=SEAL,
        )

    def _trust(
        self,
        name: ReleaseName | None,
        budget: Budget,
        trace: Trace,
        follow: Callable[[Walk], T],
    ) -> tuple[Walk, T, Memory]:
        """Take steps 0 and 1; `follow` goes on from the top-level roles."""
        for _ in range(_TRIES):
            try:
                return self._trust_once(name, budget, trace, follow)
            except ConflictError:
                trace.clear()
        raise ConflictError(
            f"{self._store.where} is changed by others faster than it can be read"
        )

    def _trust_once(
        self,
        name: ReleaseName | None,
        budget: Budget,
        trace: Trace,
        follow: Callable[[Walk], T],
    ) -> tuple[Walk, T, Memory]:
        # 0: the memory, whole or an error; whom this repository may speak for
        with trace.step(0) as facts:
            memory = self._store.load()
            clock = StoppedClock(self._clock.now())
            moment = Moment.take(clock, memory.root_time, memory.timestamp_time)
            trace.time = moment.now
            publishers = memory.publishers
            facts["publishers"] = ["*"] if publishers is None else sorted(publishers)
            # check 0.10: a repository speaks for its own publishers only
            if (
                name is not None
                and publishers is not None
                and name.publisher not in publishers
            ):
                raise UnknownTargetError(
                    f"{name.publisher} is not a publisher of this repository "
                    f"(it may speak for {', '.join(sorted(publishers))})",
                    name=str(name),
                )

        # 1: trust metadata; what was accepted is durable before it is used
        with trace.step(1) as facts:
            walk = Walk(
                memory,
                self._store.copy
                if name is None
                else partial(self._store.copy_for, name),
                self._source,
                demand=Demand.MARGO,
                limits=self._limits,
                clock=clock,
                budget=budget,
            )
            try:
                walk.top_level()
                trace.time = walk.workflow.moment.now
                found = follow(walk)
                after = walk.workflow.complete()
            except SupplyChainError:
                self._keep(memory, walk.workflow.memory, walk, name)
                raise
            finally:
                facts["roles"] = _roles(walk)
                facts["issued"] = _issued(walk)
                facts["source"] = self._source.url
                facts["reached"] = not walk.offline
                if walk.unreached is not None:
                    facts["out of reach"] = str(walk.unreached)
            memory = self._keep(memory, after, walk, name)
            return walk, found, memory

    def _keep(
        self, before: Memory, after: Memory, walk: Walk, name: ReleaseName | None
    ) -> Memory:
        files = {role: data for role, data in walk.accepted.items() if role != "root"}
        return self._store.keep(before, after, files, walk.accepted_targets, owner=name)

    def _remember_withdrawn(
        self,
        name: ReleaseName,
        found: Chain,
        policy: PublisherPolicy,
        candidates: tuple[resolve.Candidate, ...],
        memory: Memory,
    ) -> Memory:
        digests = resolve.withdrawn_in(candidates)

        def change(current: Memory) -> Memory:
            return (
                current.with_epoch(name, policy.epoch)
                .with_withdrawn(name, digests, found.deciding.version)
                .with_reinstated(name, policy.reinstated)
            )

        # check 2.20 (instead: return memory): remembered before anything is answered
        if change(memory) != memory:
            memory = self._store.update(change)
        return memory

    def _proven(
        self,
        prove: Callable[..., Proof],
        walk: Walk,
        record: ReleaseRecord,
        budget: Budget,
        facts: dict[str, Any],
    ) -> Proof:
        """Prove a release with envelopes from wherever they can be had."""
        from margo_supplychain.verify.envelope_source import EnvelopeSource

        facts["provenance"] = "not proven"
        sources = list(self._content.sources(record.locations))
        # Who was out of reach a moment ago is waited for last.
        sources.insert(len(sources) if walk.offline else 0, self._source)
        copies = partial(self._store.attestation, record.name)
        envelopes = EnvelopeSource(sources, copies, budget)
        try:
            proof = prove(read=envelopes.read)
        except ProvenanceError as why:
            if why.trace is not None:
                facts["trace"] = why.trace
            raise
        # The layout is among them.
        self._store.keep_copies(record.name, _small_files(walk))
        if envelopes.fresh:
            self._store.keep_attestations(record.name, envelopes.fresh)
        facts.update(proof.facts)
        return proof

    def _judge(self, facts: Facts) -> None:
        violations = judge(self._policy, facts)
        if not violations:
            return
        text = "; ".join(f"{one.rule}: {one.text}" for one in violations)
        # check 5.10: what can't be judged is not "no", and never "yes"
        if all(one.inconclusive for one in violations):
            raise ClockError(f"{facts.name} {facts.record.version}: {text}")
        raise PolicyError(
            f"{facts.name} {facts.record.version} violates the device's policy: {text}",
            violations=violations,
        )

    # --- step 6 ----------------------------------------------------------------------

    def fetch(
        self,
        release: VerifiedRelease,
        to: Path,
        *,
        control: Control | None = None,
        platforms: frozenset[str] | None = None,
    ) -> VerifiedContent:
        """Fetch every byte of a verified release into an OCI image layout.

        What is there already is hashed again, what is missing is fetched, a large blob
        from where an earlier call broke off; nothing is extracted, and nothing appears
        under its name before it was checked.

        A release of which some platforms were fetched can be confirmed like any other:
        what runs is named by its manifest, and that is the same for all of them.

        Args:
            release: from this verifier.
            to: the layout's directory; made if need be.
            control: budget and callbacks of this call.
            platforms: of image indexes that name platforms, these alone, such as
                `linux/arm64`; None for all.

        Raises:
            VerificationError: bytes differ, an archive is unsafe, the package
                disagrees with its record, or an index has none of the platforms.
            InconclusiveError: a source, the disk or the budget gave out.
            FormatError: `to` holds something that is no OCI image layout; no platform.
        """
        if release.store != self._store.where:
            raise ValueError("the release was verified by another store")
        if platforms is not None:
            _check_platforms(platforms)
        from margo_supplychain.verify.content import Fetch

        trace = Trace(f"content of {release.name} {release.version}")
        trace.time = release.report.time
        try:
            with trace.step(6) as facts:
                fetch = Fetch(
                    release.record,
                    self._content,
                    to,
                    limits=self._limits,
                    budget=Budget(control),
                    copies=partial(self._store.copy_for, release.name),
                    platforms=platforms,
                )
                if platforms is not None:
                    facts["platforms"] = sorted(platforms)
                fetch.run()
                facts["blobs"] = len(fetch.digests)
                fetched = FetchedRelease(
                    name=release.name,
                    version=release.version,
                    artifact=release.manifest.digest,
                    epoch=release.epoch,
                    slot=release.slot,
                    policy_signers=release.policy_signers,
                    passed=release.passed,
                )
                self._store.update(lambda memory: memory.with_fetched(fetched))
        except SupplyChainError as error:
            trace.attach(error)
            raise
        return VerifiedContent(
            release=release,
            digests=MappingProxyType(fetch.digests),
            content=fetch.content,
            platforms=platforms,
            seal=SEAL,
        )

    # --- afterwards ------------------------------------------------------------------

    def confirm_running(self, artifact: Digest, *, slot: str = "default") -> None:
        """Raise a slot's release floor: the agent calls it once the software runs.

        Args:
            artifact: the digest of an artifact whose content `fetch` fetched.
            slot: the instance that runs it.

        Raises:
            UnknownTargetError: this device never fetched it whole.
            ReleaseFloorError: the slot runs something newer.
        """
        slot = slot_name(slot)

        def change(memory: Memory) -> Memory:
            found = [one for one in memory.fetched if one.artifact == artifact]
            floors = memory.releases.get(slot, {}).values()
            if not found and any(one.artifact == artifact for one in floors):
                return memory  # confirmed long ago, and confirmed again at each start
            # check 9.1: only what was verified and fetched can be confirmed
            if not found:
                raise UnknownTargetError(
                    f"{artifact} was not fetched by this device", name=str(artifact)
                )
            # One artifact may be the release of two applications: what was fetched
            # for this slot counts, else what was fetched for any.
            here = [one for one in found if one.slot == slot] or found
            for one in here:
                memory = memory.with_floor(
                    one.name, slot, _confirmed(memory, one, slot)
                )
            return memory

        self._store.update(change)

    def check_installed(self, digest: Digest) -> Report:
        """Say whether an installed artifact may keep running; no network, no clock.

        Judged by what the device remembers: that it fetched or confirmed the artifact,
        and that no withdrawal that it has seen stands.
        """
        memory = self._store.load()
        trace = Trace(str(digest))
        if memory.time_floor is not None:
            trace.time = memory.time_floor
        known = {one.name for one in memory.fetched if one.artifact == digest}
        for floors in memory.releases.values():
            known |= {
                name for name, floor in floors.items() if floor.artifact == digest
            }
        # check 9.10: unknown is not good
        if not known:
            return trace.report("rejected", UnknownTargetError.code)
        # check 9.11: withdrawn is not good either
        if any(memory.stands_withdrawn(name, digest) for name in known):
            return trace.report("rejected", "withdrawn")
        return trace.report("verified", "verified")


def _check_platforms(platforms: frozenset[str]) -> None:
    from margo_supplychain.formats.closure import platform_name

    if not platforms:
        raise ValueError("expected at least one platform; None is for all of them")
    for one in platforms:
        platform_name(one)


def _confirmed(memory: Memory, one: FetchedRelease, slot: str) -> ReleaseFloor:
    own = memory.releases.get(slot, {}).get(one.name)
    floor = own or memory.floor(one.name, slot)
    # check 9.2: confirming lowers no floor but the one that verifying let it pass
    if (
        floor is not None
        and floor != one.passed
        and (one.epoch, one.version) < (floor.epoch, floor.version)
    ):
        raise ReleaseFloorError(
            f"{one.name} {one.version} is older than {floor.version}, the floor of "
            f"slot {slot}",
            name=str(one.name),
            version=str(one.version),
            floor=str(floor.version),
            slot=slot,
        )
    if own is not None and own == one.floor(own.serial):
        return own  # confirmed again, as at every start: nothing moves
    return one.floor(memory.sequence + 1)


def _small_files(walk: Walk) -> dict[str, bytes]:
    # Also what a copy had: it may be nobody's, and so the first to go.
    return walk.copied_targets | walk.accepted_targets


def _freshness(walk: Walk) -> Freshness:
    moment: Moment = walk.workflow.moment
    if not moment.believable:
        return Freshness.UNPROVEN
    return Freshness.GRACE if walk.offline else Freshness.FRESH


def _age(walk: Walk) -> timedelta | None:
    timestamp = walk.workflow.timestamp
    moment = walk.workflow.moment
    if timestamp is None or timestamp.file.issued is None or not moment.believable:
        return None
    return moment.now - timestamp.file.issued


def _roles(walk: Walk) -> dict[str, object]:
    """Return what was accepted of each role; a role may be called anything."""
    workflow = walk.workflow
    return {
        role: {
            "version": one.version,
            "keyids": sorted(one.keyids),
            "expires": format_time(one.file.expires),
        }
        for role, one in (
            ("root", workflow.root),
            ("timestamp", workflow.timestamp),
            ("snapshot", workflow.snapshot),
            *workflow.roles.items(),
        )
        if one is not None
    }


def _issued(walk: Walk) -> str | None:
    timestamp = walk.workflow.timestamp
    if timestamp is None or timestamp.file.issued is None:
        return None
    return format_time(timestamp.file.issued)
