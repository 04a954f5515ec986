"""Which listed releases devices take no more since a publisher policy has changed.

Whoever signs a policy should read this when he signs, not when devices report it. Only
what the change does is said: a release that was refused before is none of it. What a
record names tells most; links and statements are read where their signers matter. What
can't be read is not judged here: `repo check` says why.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.attested import read_envelope
from margo_supplychain.authoring.rules import is_barred
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    AttestationError,
    FetchError,
    ProvenanceError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.record import ReleaseRecord
from margo_supplychain.verify import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.verify.resolve import Candidate

MOST: Final = 100  # releases that are looked at, newest first
_SHOWN: Final = 5  # names in one line
_NOTHING: Final = PublisherPolicy(epoch=1, provenance="none")


class _Listed(NamedTuple):
    """A release that can be judged."""

    candidate: Candidate
    record: ReleaseRecord


class _Refusal(NamedTuple):
    """Why devices refuse a release: all of them, or those whose owner asks for more."""

    by_all: bool
    why: str


def refused_since(
    work: Work, name: ReleaseName, old: PublisherPolicy | None, new: PublisherPolicy
) -> list[str]:
    """Return which releases a change of policy makes uninstallable, and why.

    Args:
        work: its state is the one before the change.
        name: the application.
        old: the policy before, if there is one.
        new: what is signed now.
    """
    found: dict[_Refusal, list[str]] = {}
    # Records are read only where the change is about them.
    same = old is not None and _demands(old) == _demands(new)
    for one in () if same else _records(work, name):
        if is_barred(new, one.record.version):
            continue
        before = None if old is None else _by_record(work, old, one.record)
        now = _by_record(work, new, one.record)
        if now is None and old is not None:
            now = _by_signers(work, name, old, new, one)
        if now is not None and (before is None or now.by_all > before.by_all):
            found.setdefault(now, []).append(str(one.record.version))
    said = []
    for refusal, versions in found.items():
        who = "devices" if refusal.by_all else "devices that demand provenance"
        more = f" and {len(versions) - _SHOWN} more" if len(versions) > _SHOWN else ""
        said.append(
            f"{who} refuse {', '.join(versions[:_SHOWN])}{more} of {name} from now on: "
            f"{refusal.why}"
        )
    return said


def _demands(policy: PublisherPolicy) -> PublisherPolicy:
    """Return a policy without what is no demand on how a release was made."""
    return replace(
        policy,
        epoch=1,
        minimum_version=None,
        reinstated=(),
        downgrade_to=(),
        summary=None,
    )


def _records(work: Work, name: ReleaseName) -> Iterator[_Listed]:
    for one in work.listed(name)[:MOST]:
        if one.entry is None or one.entry.withdrawn is not None:
            continue
        with suppress(FetchError, VerificationError):
            data = work.read(one.path, one.file, limit=LIMITS.record)
            yield _Listed(one, ReleaseRecord.parse(data))


def _by_record(
    work: Work, policy: PublisherPolicy, record: ReleaseRecord
) -> _Refusal | None:
    """Return what a record lacks by a policy; None if it may be good."""
    is_required = policy.provenance == "required"
    problem = _of_layout(work, policy, record)
    for rule in policy.attestations:
        if is_required and problem is not None:
            break
        if not any(rule.covers(one.type) for one in record.attestations):
            return _Refusal(by_all=True, why=f"no {rule.type} was published with it")
    # Without links, it was never taken by a device whose owner demands them.
    if problem is None or (record.layout is None and not is_required):
        return None
    return _Refusal(by_all=is_required, why=problem)


def _of_layout(
    work: Work, policy: PublisherPolicy, record: ReleaseRecord
) -> str | None:
    if record.layout is None:
        return "published without links"
    rule = policy.layout(record.layout)
    if rule is None:
        return f"layout {record.layout}, by which it was made, is gone"
    if not rule.serves(record.version, record.release):
        return f"layout {rule.number}, by which it was made, serves it no more"
    if rule.expires is not None and rule.expires <= work.now:
        return f"layout {rule.number} ended {rule.expires:%Y-%m-%d}"
    return None


def _by_signers(
    work: Work,
    name: ReleaseName,
    old: PublisherPolicy,
    new: PublisherPolicy,
    one: _Listed,
) -> _Refusal | None:
    """Return what links or statements lack, where the change is about their signers."""
    is_required = new.provenance == "required"
    revoked = new.revoked_functionaries
    changed = revoked != old.revoked_functionaries
    if (
        one.record.layout is not None
        and (changed or (is_required and old.provenance == "none" and revoked))
        and _falls(work, name, _links(old) if changed else _NOTHING, _links(new), one)
    ):
        return _Refusal(by_all=is_required, why="a revoked functionary did a step")
    if (new.attestations, new.keys) == (old.attestations, old.keys):
        return None
    for rule in new.attestations:
        was = tuple(each for each in old.attestations if each.type == rule.type)
        before = replace(old, provenance="none", attestations=was)
        now = replace(new, provenance="none", attestations=(rule,))
        if _falls(work, name, before, now, one):
            return _Refusal(by_all=True, why=f"no {rule.type} of it counts")
    return None


def _links(policy: PublisherPolicy) -> PublisherPolicy:
    """Return a policy that demands links alone."""
    return replace(policy, provenance="required", attestations=())


def _falls(
    work: Work,
    name: ReleaseName,
    old: PublisherPolicy,
    new: PublisherPolicy,
    one: _Listed,
) -> bool:
    return not _holds(work, name, new, one) and _holds(work, name, old, one)


def _holds(
    work: Work, name: ReleaseName, policy: PublisherPolicy, one: _Listed
) -> bool:
    """Say whether a device proves a release by a policy, as far as all can be read."""
    from margo_supplychain.verify.policy import ProvenanceDemand
    from margo_supplychain.verify.proof import prove

    walk = work.state.walk
    try:
        prove(
            walk,
            chain.follow(walk, name),
            name,
            policy,
            one.record,
            record_digest=Digest("sha256", one.candidate.file.hashes["sha256"]),
            entry=one.candidate.entry,
            demand=ProvenanceDemand(),
            read=lambda what: read_envelope(work.place.source, what),
            limits=LIMITS,
        )
    except (AttestationError, ProvenanceError):
        return False
    except SupplyChainError:
        return True
    return True
