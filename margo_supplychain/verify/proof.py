"""Step 4: how a release was made, proven as the publisher's offline key demands.

What must be proven is said by the offline role and by the device's policy alone. The
record says how, the application's list who summarised it: both are signed online, so
what they leave out is missing, and never lifts a demand. Nothing is executed, and
nothing of this is loaded where nothing is demanded.

    the demand     publisher policy: provenance, attestations; device policy: more
    the layout     number from the record, whether it is good from the publisher policy,
                   its bytes from the offline role's own list
    the links      by digest; judged by `provenance.chain`, all findings at once
    statements     by digest; only those signed by keys that the publisher policy names
    or a summary   of all that, by somebody whom a policy names (`summarised`)
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from margo_supplychain import threshold
from margo_supplychain.errors import (
    ExpiredError,
    FetchError,
    KeyFormatError,
    ProvenanceError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.times import format_time
from margo_supplychain.verify.case import Case, Envelopes
from margo_supplychain.verify.workflow import delegation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from margo_supplychain.formats.digests import Descriptor
    from margo_supplychain.formats.dsse import Envelope
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import LayoutRule, PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import ReleaseEntry
    from margo_supplychain.formats.tuf_metadata import RoleFile
    from margo_supplychain.provenance.chain import ChainResult, LinkFile
    from margo_supplychain.provenance.findings import Finding
    from margo_supplychain.provenance.layouts import Layout
    from margo_supplychain.verify.attested import ProvenStatement
    from margo_supplychain.verify.chain import Chain
    from margo_supplychain.verify.limits import Limits
    from margo_supplychain.verify.policy import ProvenanceDemand
    from margo_supplychain.verify.refresh import Walk

_PROLONG: Final = (
    "ask the publisher to prolong layout {}; its releases are proven again then"
)


class Proof(NamedTuple):
    """What step 4 has proven.

    Args:
        tier: the full chain was judged here, or a summary of it was, or nobody asked
            for it.
        layout: number of the layout.
        statements: those that count, of the types that a policy asks for.
        facts: for the report, ready for JSON.
        work: what the rules of its layout took, see `ChainResult`.
    """

    tier: Literal["none", "full", "summary"]
    layout: int | None
    statements: tuple[ProvenStatement, ...]
    facts: dict[str, Any]
    work: int = 0


def prove(  # noqa: PLR0913 - all of one question, for devices and for authors
    walk: Walk,
    found: Chain,
    name: ReleaseName,
    policy: PublisherPolicy,
    record: ReleaseRecord,
    *,
    record_digest: Digest,
    entry: ReleaseEntry | None,
    demand: ProvenanceDemand,
    read: Callable[[Descriptor], bytes],
    limits: Limits,
    summary: bytes | None = None,
) -> Proof:
    """Prove what is demanded of a release, or say what is missing.

    Args:
        walk: trusted metadata, for files of the offline role.
        found: the chain of roles that speak for `name`.
        policy, record: verified.
        record_digest: sha256 of the record's exact bytes.
        entry: of the release in the deciding role's list.
        demand: the device's; can only add to the publisher's.
        read: returns an envelope's bytes, from wherever they can be had.
        summary: a verification summary that was handed to the device.

    Raises:
        ProvenanceError: the chain, or a summary of it, does not prove the release.
        AttestationError: a statement is missing, or does not say enough.
        DigestMismatchError, LengthMismatchError: an envelope has other bytes.
        InconclusiveError: an envelope can't be had, or the clock can't tell.
    """
    if not policy.asks_provenance and not demand.asks:
        facts: dict[str, Any] = {"provenance": "none"}
        return Proof("none", None, (), facts)
    envelopes = Envelopes(read, limits, f"{name} {record.version}")
    case = Case(
        walk=walk,
        found=found,
        name=name,
        policy=policy,
        record=record,
        record_digest=record_digest,
        entry=entry,
        demand=demand,
        envelopes=envelopes,
        limits=limits,
        summary=summary,
    )
    # check 4.5: who demands and who delivers share no key
    require_disjoint(walk, found, name)
    if demand.tier == "summary" and (case.wants_chain or policy.attestations):
        return _summarised(case)
    return _judged(case)


def _judged(case: Case) -> Proof:
    from margo_supplychain.verify.attested import demanded, facts_of

    facts, work = _chain(case) if case.wants_chain else ({}, 0)
    # Statements of types that nobody is named for count for nobody.
    statements = demanded(case)
    # Statements alone say nothing of a chain.
    tier: Literal["none", "full"] = "full" if case.wants_chain else "none"
    return Proof(
        tier=tier,
        layout=facts.get("layout"),
        statements=statements,
        facts={
            "provenance": tier,
            **facts,
            "statements": [facts_of(one) for one in statements],
        },
        work=work,
    )


def _summarised(case: Case) -> Proof:
    from margo_supplychain.verify.attested import demanded, facts_of
    from margo_supplychain.verify.summarised import summarised

    rule = layout = None
    if case.wants_chain:
        rule = layout_rule(case)
        # The file is read all the same: gone or expired, it serves nobody.
        layout, _ = _layout(case, rule)
        require_current(case, rule.number, _expiry(rule, layout))
    facts = summarised(case, rule, layout)
    # The device's own rules look into statements, which a summary does not hold.
    statements = demanded(case, kinds=case.demand.kinds)
    return Proof(
        tier="summary",
        layout=rule.number if rule is not None else None,
        statements=statements,
        facts={
            "provenance": "summary",
            **({"layout": rule.number} if rule is not None else {}),
            **facts,
            "statements": [facts_of(one) for one in statements],
        },
    )


# --- who may demand ------------------------------------------------------------------


def require_disjoint(walk: Walk, found: Chain, name: ReleaseName) -> None:
    """Refuse a publisher whose offline keys are held online, too.

    Raises:
        ProvenanceError: one key material is in both chains.
    """
    above: RoleFile[Any] = walk.workflow.root.file
    held = {role: _materials(above, role) for role in ("root", "timestamp", "snapshot")}
    for one in found.roles:
        held[one.file.role] = _materials(above, one.file.role)
        above = one.file
    # In the profile simple the role that says what is required also does it.
    online = ("timestamp", "snapshot", found.deciding.file.role)
    upper = found.roles[: found.roles.index(found.offline) + 1]
    for label in ("root", *(one.file.role for one in upper)):
        for other in online:
            if held[label] & held[other]:
                raise ProvenanceError(
                    f"{label} and {other} share a key, so who releases {name} could "
                    "say what its releases must prove",
                    reason="keys-not-disjoint",
                    found=f"one key for {label} and {other}",
                    wanted="keys of root, targets and the publisher that no online "
                    "role has",
                    hint="the publisher must rotate one of them",
                )


def _materials(above: RoleFile[Any], role: str) -> set[str]:
    """Return the material of a role's keys; those that can't be read sign nothing."""
    found, keys = delegation(above, role)
    held = set()
    for keyid in found.keyids:
        with suppress(KeyError, KeyFormatError):
            held.add(threshold.material(keys[keyid]))
    return held


# --- the layout ----------------------------------------------------------------------


def layout_rule(case: Case) -> LayoutRule:
    """Return what the publisher policy says of the layout that the record names.

    Raises:
        ProvenanceError: the record names none, or one that is not good for it.
    """
    number, version = case.record.layout, case.record.version
    # check 4.7: a record that names no layout lifts no demand for one
    if number is None:
        raise ProvenanceError(
            f"the record of {case.label} names no layout, which its "
            f"{'publisher' if case.policy.provenance == 'required' else 'device'} "
            "demands",
            reason="no-layout",
            found="none",
            wanted=_wanted(case),
        )
    rule = case.policy.layout(number)
    # check 4.8: the offline key says which layouts there are
    if rule is None:
        raise ProvenanceError(
            f"{case.label} was made by layout {number}, which its publisher's policy "
            "does not name",
            reason="layout-unknown",
            found=f"layout {number}",
            wanted=_wanted(case),
        )
    # check 4.9: and which of them serves this release
    if not rule.serves(version, case.record.release):
        good_for = (
            f"versions {rule.range}"
            if rule.range is not None
            else f"{len(rule.releases)} releases from before it was superseded"
        )
        raise ProvenanceError(
            f"{case.label} was made by layout {number}, which is good for {good_for}",
            reason="layout-not-for-release",
            found=f"layout {number}",
            wanted=_wanted(case),
        )
    return rule


def _wanted(case: Case) -> str:
    record = case.record
    rule = case.policy.layout_for(record.version, record.release)
    if rule is None:
        return "a layout that the publisher's policy has for this version"
    return f"layout {rule.number}"


def _layout_bytes(case: Case, rule: LayoutRule) -> bytes:
    path = case.name.layout_path(rule.number)
    offline = case.found.offline
    # From the offline role's own list, whatever else might match the path.
    file = offline.signed.targets.get(path)
    # check 4.10: a layout that was taken away is none
    if file is None:
        raise ProvenanceError(
            f"{offline.file.label} has no {path}, which its own policy names",
            reason="layout-unknown",
            found="nothing listed",
            wanted=path,
        )
    data = case.walk.target(path, file, limit=case.limits.layout)
    # check 4.11: the policy names its very bytes
    if Digest.of(data) != rule.digest:
        raise ProvenanceError(
            f"{path} is {Digest.of(data).short}, the publisher's policy names "
            f"{rule.digest.short}: a layout's bytes never change",
            reason="layout-digest",
            found=str(Digest.of(data)),
            wanted=str(rule.digest),
        )
    return data


def _layout(case: Case, rule: LayoutRule) -> tuple[Layout, Envelope]:
    from margo_supplychain.provenance.layouts import read_layout

    what = f"layout {rule.number} of {case.name}"
    return read_layout(_layout_bytes(case, rule), what=what)


def _expiry(rule: LayoutRule, layout: Layout) -> datetime:
    # The file's bytes never change; a longer life is granted by the policy.
    return rule.expires if rule.expires is not None else layout.expires


def judged_at(case: Case, number: int, expires: datetime) -> datetime:
    """Return the time that says whether a layout has expired.

    Raises:
        ClockError: only a clock that can't be believed says that it has.
    """
    moment = case.walk.workflow.moment
    label = f"layout {number} of {case.name}"
    try:
        moment.require_unexpired(f"layout {number}", label, expires)
    except ExpiredError as why:
        return why.now
    return moment.now


def require_current(case: Case, number: int, expires: datetime) -> None:
    """Refuse a layout that has expired where no chain is judged that would say so.

    Raises:
        ProvenanceError: by the clock or by a signed time.
        ClockError: only a clock that can't be believed says so.
    """
    now = judged_at(case, number, expires)
    # check 4.12: who made it, may once have done so
    if now >= expires:
        raise ProvenanceError(
            f"layout {number} of {case.name} expired at {format_time(expires)}",
            reason="layout-expired",
            found=f"expired at {format_time(expires)}, it is {format_time(now)}",
            wanted="a later expiry in the publisher's policy, or a release by a "
            "newer layout",
            hint=_PROLONG.format(number),
        )


# --- the chain -----------------------------------------------------------------------


def _chain(case: Case) -> tuple[dict[str, Any], int]:
    """Return the facts of a chain that is proven, and what work it took."""
    from margo_supplychain.formats.release_products import release_products
    from margo_supplychain.provenance.chain import ReleaseFacts, verify_chain

    rule = layout_rule(case)
    layout, envelope = _layout(case, rule)
    expires = _expiry(rule, layout)
    now = judged_at(case, rule.number, expires)
    record = case.record
    try:
        result = verify_chain(
            layout,
            _links(case),
            ReleaseFacts(
                artifact=record.artifact.digest,
                products=release_products(record),
            ),
            now=now,
            expires=expires,
            revoked={
                one.key: frozenset(one.survivors)
                for one in case.policy.revoked_functionaries
            },
        )
    except FetchError:
        # Whoever withholds a link does not turn this no into nobody knows.
        require_current(case, rule.number, expires)
        raise
    # check 4.13: nothing that a step, a rule or a functionary lacks is passed over
    if result.findings:
        raise _not_proven(case, result)
    # TUF's listing decides; who signed the envelope is said, for people.
    role, keys = delegation(case.found.roles[0].file, case.found.offline.file.role)
    signers = threshold.distinct_signers(
        envelope.pae,
        envelope.signatures,
        {keyid: keys[keyid] for keyid in role.keyids if keyid in keys},
    )
    facts = {
        "layout": rule.number,
        "layout path": case.name.layout_path(rule.number),
        "layout digest": str(rule.digest),
        "layout signatures": sorted(signers.values()),
        "steps": [
            {
                "name": one.name,
                "functionaries": sorted(one.functionaries),
                "links": sorted(map(str, one.links)),
            }
            for one in result.steps
        ],
        "functionaries": sorted(result.functionaries),
        "key ids": sorted(_key_ids(layout, result)),
        "trace": result.trace,
    }
    return facts, result.work


def _key_ids(layout: Layout, result: ChainResult) -> set[str]:
    """Return every id by which a policy may ever revoke those who made the release."""
    from margo_supplychain.provenance.revocation import names_of

    keys = {keyid for one in result.steps for keyid in one.functionaries}
    return {name for keyid in keys for name in names_of(layout.keys[keyid])}


def _links(case: Case) -> Iterator[LinkFile]:
    """Yield the record's links; each is read when it is its turn, and not kept."""
    from margo_supplychain.formats.predicates import kind_of
    from margo_supplychain.provenance.chain import LinkFile

    for one in case.record.attestations:
        if kind_of(one.type) != "link":
            continue
        data = case.envelopes.get(one.digest, one.size)
        yield LinkFile(step=one.step or "", digest=one.digest, data=data)


def _not_proven(case: Case, result: ChainResult) -> ProvenanceError:
    first: Finding = result.findings[0]
    more = len(result.findings) - 1
    rest = f" (and {more} more finding{'s'[: more > 1]})" if more else ""
    return ProvenanceError(
        f"{case.label}: {first.text}{rest}",
        reason=first.reason,
        step=first.step,
        rule=first.rule,
        artifact=first.artifact,
        found=first.found,
        wanted=first.wanted,
        trace=result.trace,
        hint=_PROLONG.format(case.record.layout)
        if first.reason == "layout-expired"
        else None,
    )
