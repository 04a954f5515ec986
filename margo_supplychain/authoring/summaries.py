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
from margo_supplychain.authoring.attested import envelope_at, read_envelope
from margo_supplychain.authoring.work import Attested
from margo_supplychain.errors import (
    FetchError,
    FormatError,
    RefusedError,
    VerificationError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.dsse import Envelope
from margo_supplychain.formats.release_entry import MAX_SUMMARIES, MAX_SUMMARY
from margo_supplychain.formats.statements import parse_statement
from margo_supplychain.formats.times import format_time
from margo_supplychain.provenance.summaries import (
    Bounds,
    check_bounds,
    read_summary,
    resource_of,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from margo_supplychain.authoring.attestations import Attestation
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.work import Work
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.release_entry import AttestationPin, ReleaseEntry


class _Summary(NamedTuple):
    """What an envelope in an entry says.

    Args:
        pin: what the entry says of it.
        signers: whose it is: key material where the publisher names the keys, else the
            key ids that it claims.
        verified: when its verifier looked.
        is_named: whether a key that the publisher names has signed it.
    """

    def is_of_same_verifier(self, other: _Summary) -> bool:
        """Say whether two are by one verifier, so that the newer replaces the older.

        Who signed what is named is known. Anybody may claim a key id, be it spelled
        like the material of a key that is named: that replaces another claim alone.
        """
        return (self.is_named, self.signers) == (other.is_named, other.signers)

    pin: AttestationPin
    signers: frozenset[str]
    verified: datetime
    is_named: bool


def require_none(given: Sequence[Attestation], release: Release) -> None:
    """Refuse summaries of what is not listed yet: they would name no record of it.

    Raises:
        RefusedError: there are some.
    """
    if given:
        raise RefusedError(
            f"{given[0].shown} comes with {release.name} {release.version}, whose "
            "record is signed only now: nobody can have verified it",
            hint="publish it without, verify it (device verify --vsa FILE), sign that, "
            "and publish it again with the summary",
        )


def add(
    work: Work,
    release: Release,
    given: Sequence[Attestation],
    record: ReleaseRecord,
) -> bool:
    """Let the entry of a listed release name summaries as well.

    Args:
        work: the edit.
        release: one that is listed; located.
        given: summaries.
        record: as it is listed now.

    Returns:
        Whether it names others than before.

    Raises:
        AttestationError: one is about another record, layout or release.
        RefusedError: one is older than what it would replace, or there are too many.
    """
    name, version = release.name, release.version
    listed = work.require_listed(name, version)
    entry = work.entries(name)[version]
    policy = work.require_policy(name)
    digest = Digest("sha256", listed.file.hashes["sha256"])
    _require_bound(given, record, digest, policy)
    new = _with(work, policy, record, entry, given)
    if new == entry:
        restore(work, given)
        return False
    for one in given:
        work.staged.attestations[one.what.digest] = (one.what, one.data)
    work.put_entry(work.deciding(name), listed.path, new)
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


def _require_bound(
    given: Sequence[Attestation],
    record: ReleaseRecord,
    digest: Digest,
    policy: PublisherPolicy,
) -> None:
    """Refuse a summary of something else, which no device takes, whoever signed it."""
    rule = None if record.layout is None else policy.layout(record.layout)
    bounds = Bounds(
        artifact=record.artifact.digest,
        record=digest,
        resource=resource_of(record.name, record.version),
        inputs={} if rule is None else {rule.digest: f"layout {rule.number}"},
        statements={},
        revoked=frozenset(),
    )
    for one in given:
        envelope = Envelope.parse(one.data, what=one.shown, limit=MAX_SUMMARY)
        said = parse_statement(envelope.payload, what=one.shown, limit=MAX_SUMMARY)
        summary = read_summary(said, what=one.shown)
        check_bounds(summary, said, bounds, what=one.shown)


def _with(
    work: Work,
    policy: PublisherPolicy,
    record: ReleaseRecord,
    entry: ReleaseEntry,
    given: Sequence[Attestation],
) -> ReleaseEntry:
    name, version = record.name, record.version
    known = [
        found
        for pin in entry.summaries
        if (found := _listed(work, policy, pin)) is not None
    ]
    for one in given:
        new = _read(one.data, one.pin, policy)
        if any(old.pin == new.pin for old in known):
            continue
        same = [old for old in known if old.is_of_same_verifier(new)]
        for old in same:
            if old.verified > new.verified:
                raise RefusedError(
                    f"{one.shown} is older than {old.pin.digest.short}, which "
                    f"{name} {version} names already",
                    hint="verify it again: margo-supplychain device verify --vsa FILE",
                )
            work.warnings.append(
                f"{one.shown} takes the place of {old.pin.digest.short}: "
                + ("the same verifier's" if new.is_named else "it claims the same key")
                + f", of {format_time(old.verified)}"
            )
        known = [old for old in known if old not in same]
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
        FormatError, AttestationError: it is none.
    """
    shown = f"summary {pin.digest.short}"
    envelope = Envelope.parse(data, what=shown, limit=MAX_SUMMARY)
    said = parse_statement(envelope.payload, what=shown, limit=MAX_SUMMARY)
    summary = read_summary(said, what=shown)
    named = _signed_by(envelope, policy)
    claimed = frozenset(one.keyid or "" for one in envelope.signatures)
    return _Summary(pin, named or claimed, summary.verified, bool(named))


def _signed_by(envelope: Envelope, policy: PublisherPolicy) -> frozenset[str]:
    """Return the material of the publisher's summary keys that have signed it."""
    if policy.summary is None:
        return frozenset()
    keys = policy.keys_of(policy.summary)
    return frozenset(
        threshold.distinct_signers(envelope.pae, envelope.signatures, keys)
    )
