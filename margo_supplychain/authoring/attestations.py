"""The attestations that an author gives with a release: sorted by what they say.

An envelope says itself what it is. Links and statements are pinned by the release's
record. A verification summary names the record's digest, so no record can name it: it
lies in the release's entry. Nobody's signature is counted here and no rule applied:
that is a device's judgement, see `rehearsal`.

Example:
    >>> link = (b'{"payloadType": "application/vnd.in-toto+json", "payload": '
    ...         b'"eyJfdHlwZSI6ICJsaW5rIiwgIm5hbWUiOiAiYnVpbGQifQ==", '
    ...         b'"signatures": [{"sig": "AAAA"}]}')
    >>> given = sort_out([link], artifact=Descriptor.of(b"{}", ATTESTATION).digest)
    >>> [one.reference.step for one in given.pinned]
    ['build']
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    EnvelopeFormatError,
    FormatError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.digests import Descriptor
from margo_supplychain.formats.dsse import MAX_ENVELOPE, Envelope, is_in_toto
from margo_supplychain.formats.predicates import LINK, kind_of
from margo_supplychain.formats.record import AttestationReference
from margo_supplychain.formats.registry_form import ATTESTATION
from margo_supplychain.formats.release_entry import MAX_SUMMARY, AttestationPin
from margo_supplychain.formats.statements import SPREAD, STATEMENTS, statement_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from margo_supplychain.formats.digests import Digest

MAX_TOGETHER: Final = LIMITS.attestations  # bytes of one release's


class Attestation(NamedTuple):
    """One envelope, and what a record says of it.

    Args:
        reference: type, step, digest and size.
        data: its exact bytes.
    """

    reference: AttestationReference
    data: bytes

    @property
    def what(self) -> Descriptor:
        """What it is stored as."""
        return Descriptor.of(self.data, ATTESTATION)

    @property
    def pin(self) -> AttestationPin:
        """What an entry says of it."""
        return AttestationPin(self.reference.digest, self.reference.size)

    @property
    def shown(self) -> str:
        """What it is called in messages."""
        one = self.reference
        kind = one.type if one.step is None else f"link of {one.step}"
        return f"attestation {one.digest.short} ({kind})"


class Given(NamedTuple):
    """What was given with a release.

    Args:
        pinned: links and statements, in the order of its record.
        summaries: verification summaries.
    """

    pinned: tuple[Attestation, ...] = ()
    summaries: tuple[Attestation, ...] = ()

    @property
    def references(self) -> tuple[AttestationReference, ...]:
        """What the record names."""
        return tuple(one.reference for one in self.pinned)

    @property
    def has_links(self) -> bool:
        """Whether a step of a layout is among them."""
        return any(one.reference.step is not None for one in self.pinned)


def sort_out(envelopes: Iterable[bytes], *, artifact: Digest) -> Given:
    """Sort envelopes by what they say; the same one given twice counts once.

    Args:
        envelopes: exact bytes of each.
        artifact: what the release is: a statement must be about it.

    Raises:
        EnvelopeFormatError, FormatError: one is no envelope, or no statement.
        RefusedError: one is a layout, is about something else, or says nothing that a
            device reads; or together they are more than devices read.
    """
    found = {
        one.reference.digest: one
        for one in (_read(data, artifact) for data in dict.fromkeys(envelopes))
    }
    size = sum(one.reference.size for one in found.values())
    if size > MAX_TOGETHER:
        raise RefusedError(
            f"the attestations have {size} bytes together, more than the "
            f"{MAX_TOGETHER} that devices read",
            hint="attest to archives of files, or leave out what no policy asks for",
        )
    ordered = sorted(found.values(), key=_order)
    return Given(
        pinned=tuple(one for one in ordered if not is_summary(one.reference.type)),
        summaries=tuple(one for one in ordered if is_summary(one.reference.type)),
    )


def is_summary(predicate_type: str) -> bool:
    """Say whether a statement of this type is a verification summary."""
    return kind_of(predicate_type) == "summary"


def describe(references: Sequence[AttestationReference]) -> str:
    """Return what attestations are, for people: steps, then types of statements."""
    steps = sorted({one.step for one in references if one.step is not None})
    types = sorted({one.type for one in references if one.step is None})
    texts = []
    if steps:
        texts.append(f"links of {', '.join(steps)}")
    return "; ".join([*texts, *types])


def _order(one: Attestation) -> tuple[str, str, str]:
    # One set of attestations, whatever files they came in, gives one record.
    reference = one.reference
    return reference.type, reference.step or "", str(reference.digest)


def _read(data: bytes, artifact: Digest) -> Attestation:
    what = Descriptor.of(data, ATTESTATION)
    shown = f"attestation {what.digest.short}"
    envelope = Envelope.parse(data, what=shown)
    if not is_in_toto(envelope.payload_type):
        raise RefusedError(
            f"{shown} holds {envelope.payload_type}, expected an in-toto link or "
            "statement",
            hint="make it with `margo-supplychain attest`, or another in-toto tool",
        )
    said = strict_json.parse(
        envelope.payload,
        what=shown,
        limit=MAX_ENVELOPE,
        error=EnvelopeFormatError,
        spread=SPREAD,
        fractions=True,
    )
    type_, step = _named(said, shown, artifact)
    if is_summary(type_) and what.size > MAX_SUMMARY:
        raise MetadataFormatError(
            f"{shown} is a verification summary of {what.size} bytes, more than the "
            f"limit of {MAX_SUMMARY}"
        )
    reference = AttestationReference(
        type=type_, step=step, digest=what.digest, size=what.size
    )
    return Attestation(reference, data)


def _named(
    said: Mapping[str, Any], shown: str, artifact: Digest
) -> tuple[str, str | None]:
    """Return the predicate type and the step of a payload."""
    kind = said.get("_type")
    if kind == "link":
        return LINK, _step(said, shown)
    if kind == "layout":
        raise RefusedError(
            f"{shown} is a layout, which the publisher's offline key lists",
            hint="list it: margo-supplychain app policy PUBLISHER/NAME --layout FILE "
            "--serves RANGE",
        )
    if kind not in STATEMENTS:
        raise RefusedError(
            f"{shown} is of type {kind!r:.80}, expected an in-toto link or statement",
            hint="no device reads it: leave it out",
        )
    statement = statement_of(said, what=shown)
    if kind_of(statement.predicate_type) == "link":
        # Its subjects are the step's products; what these are is for the layout to say.
        return LINK, _step(statement.predicate, shown)
    if not statement.is_about(artifact):
        about = ", ".join(
            f"{digests.get('sha256', 'no sha256')[:12]}"
            for _, digests in statement.subjects[:3]
        )
        raise RefusedError(
            f"{shown} ({statement.predicate_type}) is about {about}, expected the "
            f"package {artifact.short}",
            hint="bind it to this release: margo-supplychain attest add FILE --release "
            "DIST",
        )
    return statement.predicate_type, None


def _step(said: Mapping[str, Any], shown: str) -> str:
    name = said.get("name")
    if not isinstance(name, str) or not name:
        raise FormatError(f"{shown} is a link without the name of its step")
    return name
