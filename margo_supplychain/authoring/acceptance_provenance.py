"""How releases that vendors submit were made: judged before anything of them is kept.

A record may name only a layout that its publisher's policy names, for this release. The
attestations come in the submission itself, or are here already; what they prove is
judged by the device's own code, over the repository as it would be. One release's are
in memory at a time. Only when nothing is refused any more are they read again and
written, before any record is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.attested import read_envelope
from margo_supplychain.authoring.overlay import Overlay, Staged
from margo_supplychain.authoring.rehearsal import prove_release
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from margo_supplychain.authoring.acceptance import Judged
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord

    Keep = Callable[[dict[Digest, tuple[Descriptor, bytes]]], None]
    """Writes the envelopes of one release."""

MAX_WORK: Final = 1 << 33
"""Characters of names that the rules of one submission's releases may look at, as much
as eight of the worst: the repository is locked meanwhile."""


def require_known_layout(record: ReleaseRecord, policy: PublisherPolicy) -> None:
    """Refuse a record by a layout that its publisher's policy does not have for it.

    Raises:
        RefusedError: the policy names no such layout, or another one for it, or it
            demands one.
    """
    what = f"the record of {record.name} {record.version}"
    if record.layout is None:
        if policy.provenance == "required":
            raise RefusedError(
                f"{what} names no layout, and its publisher policy demands provenance",
                hint="publish it with its links: --attestation FILE",
            )
        return
    rule = policy.layout(record.layout)
    if rule is None:
        raise RefusedError(
            f"{what} names layout {record.layout}, which its publisher policy does "
            "not name",
            hint="the publisher's offline key lists layouts: margo-supplychain app "
            f"policy {record.name} --layout FILE --serves RANGE",
        )
    if not rule.serves(record.version, record.release):
        raise RefusedError(
            f"{what} names layout {record.layout}, which does not serve it",
            hint="publish it by the layout that is current for its version",
        )


def prove_submitted(judged: Judged, submission: Submission, place: Place) -> None:
    """Judge how submitted releases were made; nothing is kept.

    Args:
        judged: what was submitted, good but for this.
        submission: with its content.
        place: the repository, for what is there already.

    Raises:
        ProvenanceError, AttestationError: a release does not prove what its publisher
            demands.
        RefusedError: an envelope is nowhere, or they are more than devices read; or the
            rules of all releases take too much work.
        FetchError: one can't be read.
    """
    brought = {what.digest for what in submission.content}
    left = MAX_WORK
    for one in judged.records:
        if one.is_withdrawn:
            continue
        found = _read(one.envelopes, brought, submission, place)
        if one.proves:
            walk = judged.after.walk
            walk.role("targets", "root")  # where a device's walk begins
            held = Overlay(Staged(attestations=found), place.source)
            proof = prove_release(walk, held, one.record.name, one.record.version)
            left -= proof.work
            if left < 0:
                raise RefusedError(
                    f"{submission.publisher}: the rules of its layouts take more work "
                    f"by {one.record.name} {one.record.version} than one submission is "
                    "worth",
                    hint="hand in fewer releases at once",
                )
    for what in judged.summaries:
        _read([what], brought, submission, place)


def keep_submitted(
    judged: Judged, submission: Submission, place: Place, *, keep: Keep
) -> None:
    """Keep what proves submitted releases, when nothing of them is refused any more.

    Whatever is written for a submission that is refused stays, and nobody names it.

    Args:
        judged, submission, place: as for `prove_submitted`, which had nothing to say.
        keep: writes envelopes.

    Raises:
        FetchError, VerificationError: one can't be read again.
        StorageError: it can't be written.
    """
    brought = {what.digest for what in submission.content}
    groups = [one.envelopes for one in judged.records if not one.is_withdrawn]
    for envelopes in (*groups, *((what,) for what in judged.summaries)):
        found = _read(envelopes, brought, submission, place)
        if found:
            keep(found)


def _read(
    named: Iterable[Descriptor],
    brought: set[Digest],
    submission: Submission,
    place: Place,
) -> dict[Digest, tuple[Descriptor, bytes]]:
    """Return those envelopes that come along, if all the others are here."""
    found = {}
    left = LIMITS.attestations
    for what in named:
        left -= what.size
        if left < 0:
            raise RefusedError(
                "the attestations of one release have more than the "
                f"{LIMITS.attestations} bytes that devices read",
                hint="hand it in without those that no policy asks for",
            )
        if what.digest in brought:
            found[what.digest] = (what, read_envelope(submission.source, what))
        elif not place.keeps(what):
            raise RefusedError(
                f"attestation {what.digest.short} is named, and neither comes along "
                f"nor lies in {place.url}",
                hint="hand it in again, with all its attestations",
            )
    return found
