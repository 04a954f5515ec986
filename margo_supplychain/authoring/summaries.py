"""Verification summaries of releases: which ones an entry of the list names.

A summary says what a verifier found of a release, for devices too small to look
themselves. It names the record's digest, so it comes after the record and lies in the
entry, which the application's role signs. What makes it count is its own signature, by
a key that the publisher's policy names, or the device's.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain import threshold
from margo_supplychain.authoring.attestations import Attestation, is_summary
from margo_supplychain.authoring.attested import envelope_at, read_envelope
from margo_supplychain.authoring.work import Attested
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.formats.release_entry import MAX_SUMMARIES, MAX_SUMMARY
from margo_supplychain.formats.statements import parse_statement
from margo_supplychain.formats.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.names import ReleaseName
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import AttestationPin, ReleaseEntry
    from margo_supplychain.formats.versions import Version
    from margo_supplychain.verify.resolve import Candidate


class _Summary(NamedTuple):
    """What an envelope in an entry says.

    Args:
        pin: what the entry says of it.
        signers: whose it is: key material where the publisher names the keys, else the
            key ids that it claims.
        verified: when its verifier looked.
        is_named: whether a key that the publisher names has signed it.
    """

    pin: AttestationPin
    signers: frozenset[str]
    verified: datetime
    is_named: bool


def first(
    work: Work,
    policy: PublisherPolicy,
    record: ReleaseRecord,
    given: Sequence[Attestation],
) -> ReleaseEntry:
    """Return the entry of a new release, with the summaries that come with it."""
    entry = record.entry()
    return _with(work, policy, record.name, record.version, entry, given)


def add(
    work: Work, existing: Candidate, release: Release, given: Sequence[Attestation]
) -> bool:
    """Let the entry of a listed release name summaries as well.

    Returns:
        Whether it names others than before.

    Raises:
        RefusedError: one is older than what it would replace, or there are too many.
    """
    if not given:
        return False
    name, version = release.name, release.version
    # It may be signed anew in this very edit.
    entry = work.entries(name)[version]
    new = _with(work, work.require_policy(name), name, version, entry, given)
    if new == entry:
        restore(work, given)
        return False
    for one in given:
        work.staged.attestations[one.what.digest] = (one.what, one.data)
    work.put_entry(work.deciding(name), existing.path, new)
    work.attested.append(Attested(release, tuple(given)))
    work.applications.add(name)
    return True


def restore(work: Work, given: Sequence[Attestation]) -> None:
    """Take in attestations that a listed release names, and that were lost."""
    for one in given:
        what = one.what
        if what.digest not in work.staged.attestations and not work.place.keeps(what):
            work.staged.attestations[what.digest] = (what, one.data)
            work.restored.add(what.digest)


def _with(
    work: Work,
    policy: PublisherPolicy,
    name: ReleaseName,
    version: Version,
    entry: ReleaseEntry,
    given: Sequence[Attestation],
) -> ReleaseEntry:
    known = [
        found
        for pin in entry.summaries
        if (found := _listed(work, policy, pin)) is not None
    ]
    for one in given:
        new = _read(one.data, one.pin, policy)
        if any(old.pin == new.pin for old in known):
            continue
        for old in known:
            if old.signers == new.signers and old.verified > new.verified:
                raise RefusedError(
                    f"{one.shown} is older than {old.pin.digest.short}, which "
                    f"{name} {version} names already",
                    hint="verify it again: margo-supplychain device verify --vsa FILE",
                )
        known = [old for old in known if old.signers != new.signers]
        known.append(new)
        if new.is_named:
            work.summarised.setdefault(name, set()).add(version)
        else:
            work.warnings.append(
                f"no key that the publisher policy of {name} names has signed "
                f"{one.shown}: only devices whose own policy names its key take it"
            )
    if len(known) > MAX_SUMMARIES:
        raise RefusedError(
            f"{name} {version} would name {len(known)} verification summaries, more "
            f"than {MAX_SUMMARIES}",
            hint="devices need one: of a key that the publisher policy names",
        )
    pins = sorted((one.pin for one in known), key=lambda pin: str(pin.digest))
    return replace(entry, summaries=tuple(pins))


def _listed(
    work: Work, policy: PublisherPolicy, pin: AttestationPin
) -> _Summary | None:
    """Return a summary that an entry names; None if it was damaged or lost."""
    staged = work.staged.attestations.get(pin.digest)
    try:
        if staged is not None:
            return _read(staged[1], pin, policy)
        data = read_envelope(work.place.source, envelope_at(pin.digest, pin.size))
        return _read(data, pin, policy)
    except (FetchError, FormatError, VerificationError) as why:
        if isinstance(why, FetchError) and not why.missing:
            raise
        work.warnings.append(
            f"summary {pin.digest.short} was damaged or lost, and is named no more"
        )
        return None


def _read(data: bytes, pin: AttestationPin, policy: PublisherPolicy) -> _Summary:
    """Read a summary; its verdict is not looked at.

    Raises:
        FormatError: it is none.
    """
    shown = f"summary {pin.digest.short}"
    envelope = Envelope.parse(data, what=shown, limit=MAX_SUMMARY)
    said = parse_statement(envelope.payload, what=shown, limit=MAX_SUMMARY)
    if not is_summary(said.predicate_type):
        raise FormatError(f"{shown} is {said.predicate_type}")
    time = said.predicate.get("timeVerified")
    named = _signed_by(envelope, policy)
    claimed = frozenset(one.keyid or "" for one in envelope.signatures)
    verified = parse_time(time, what=f"timeVerified of {shown}")
    return _Summary(pin, named or claimed, verified, bool(named))


def _signed_by(envelope: Envelope, policy: PublisherPolicy) -> frozenset[str]:
    """Return the material of the publisher's summary keys that have signed it."""
    if policy.summary is None:
        return frozenset()
    keys = {
        one.keyid: one.to_key()
        for one in policy.keys
        if one.keyid in policy.summary.keyids
    }
    signers = threshold.distinct_signers(envelope.pae, envelope.signatures, keys)
    return frozenset(signers)
