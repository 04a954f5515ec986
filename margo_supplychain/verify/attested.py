"""Statements of a release that count: signed by whom the publisher policy names.

A statement counts if enough of its type's keys signed it, it is of the type that the
record says, and it is about this artifact. One that does not count is as good as not
there, so nobody can spoil a release by adding to it, and nobody can prove one so. All
that count must meet the rule's builders and sources.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from margo_supplychain.errors import AttestationError, FormatError
from margo_supplychain.formats.dsse import Envelope, is_in_toto
from margo_supplychain.formats.plain_text import plain, quoted
from margo_supplychain.formats.predicates import kind_of
from margo_supplychain.formats.statements import Statement, parse_statement
from margo_supplychain.threshold import distinct_signers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from margo_supplychain.formats.attestation_rules import AttestationRule
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.release_parts import AttestationReference
    from margo_supplychain.verify.case import Case

_MOST_SHOWN: Final = 500  # characters of a builder, source or digest in errors


class ProvenStatement(NamedTuple):
    """A statement about the release that counts.

    Args:
        type: of its predicate.
        kind: what such a predicate is; None for a type that has no rules.
        statement: what it says; nothing where no rule of the device looks at it.
        digest: of its envelope.
        signers: material of the keys that signed it.
    """

    type: str
    kind: str | None
    statement: Statement
    digest: Digest
    signers: frozenset[str]

    def kept_for(self, kinds: frozenset[str]) -> Self:
        """Return it without its predicate, unless a rule of the device may look at it.

        A list of components of 30 MB may take half a gigabyte once it is parsed.
        """
        # Rules can't ask for what has no kind.
        if self.kind is None or self.kind in kinds:
            return self
        return self._replace(statement=self.statement._replace(predicate={}))


def demanded(
    case: Case, *, kinds: frozenset[str] | None = None
) -> tuple[ProvenStatement, ...]:
    """Return the statements that count by the publisher's rules.

    Args:
        kinds: of these alone, and none of them need be there; None for all, of which
            at least one of each rule must.

    Raises:
        AttestationError: none counts for a rule, or one has another builder or source.
    """
    found: dict[Digest, ProvenStatement] = {}
    for rule in case.policy.attestations:
        named = [
            one
            for one in case.record.attestations
            if rule.covers(one.type) and (kinds is None or kind_of(one.type) in kinds)
        ]
        # check 4.14: what the offline key demands is there, whatever the record says
        if not named and kinds is None:
            raise missing(case, rule)
        counted, problems = _counted(case, rule, named)
        # check 4.15: and at least one of them counts
        if problems and not counted and kinds is None:
            raise problems[0]
        found.update((one.digest, one) for one in counted)
    return tuple(found.values())


def missing(case: Case, rule: AttestationRule) -> AttestationError:
    """Return the error for a record that names nothing of what a rule demands."""
    return AttestationError(
        f"the record of {case.label} names no statement of type {rule.type}, which its "
        "publisher demands",
        reason="missing-attestation",
        type_=rule.type,
        found="none",
        wanted=rule.type,
    )


def facts_of(one: ProvenStatement) -> dict[str, Any]:
    """Return what a report says of a statement."""
    return {
        "type": one.type,
        "digest": str(one.digest),
        "signers": sorted(one.signers),
    }


def _counted(
    case: Case, rule: AttestationRule, named: Iterable[AttestationReference]
) -> tuple[list[ProvenStatement], list[AttestationError]]:
    """Return statements that count, and why others don't.

    Raises:
        AttestationError: one that counts has another builder or source.
    """
    counted, problems = [], []
    for reference in named:
        try:
            found = _read(case, rule, reference)
        except AttestationError as why:
            problems.append(why)
            continue
        _require_origin(case, rule, found)
        counted.append(found.kept_for(case.demand.kinds))
    return counted, problems


def _read(
    case: Case, rule: AttestationRule, named: AttestationReference
) -> ProvenStatement:
    what = f"attestation {named.digest.short} of {case.label}"
    data = case.envelopes.get(named.digest, named.size)

    def problem(reason: str, text: str, found: str, wanted: str) -> AttestationError:
        return AttestationError(
            f"{what} {text}",
            reason=reason,
            type_=named.type,
            found=found,
            wanted=wanted,
        )

    try:
        envelope = Envelope.parse(data, what=what, limit=case.limits.attestation)
    except FormatError as why:
        raise AttestationError(str(why), reason="envelope", type_=named.type) from why
    # check 4.16: a signature over another type of payload says something else
    if not is_in_toto(envelope.payload_type):
        raise problem(
            "payload-type",
            f"has the payload type {quoted(envelope.payload_type)}",
            envelope.payload_type,
            "an in-toto statement",
        )
    signers = distinct_signers(
        envelope.pae, envelope.signatures, case.policy.keys_of(rule)
    )
    # check 4.17: enough of those whom the offline key names
    if len(signers) < rule.threshold:
        raise problem(
            "signature",
            f"is signed by {len(signers)} of the keys that the publisher names for "
            f"{rule.type}, expected {rule.threshold}",
            f"{len(signers)} keys",
            f"{rule.threshold} of {', '.join(one[:12] for one in rule.keyids[:8])}",
        )
    try:
        statement = parse_statement(
            envelope.payload, what=what, limit=case.limits.attestation
        )
    except FormatError as why:
        raise AttestationError(str(why), reason="envelope", type_=named.type) from why
    # check 4.18: what was signed as one thing is not taken for another
    if statement.predicate_type != named.type:
        raise problem(
            "predicate-type",
            f"says {quoted(statement.predicate_type)}, the record {named.type}",
            statement.predicate_type,
            named.type,
        )
    # check 4.19: it is about these very bytes
    if not statement.is_about(case.record.artifact.digest):
        raise problem(
            "subject",
            "is about something else",
            _subject(statement),
            str(case.record.artifact.digest),
        )
    return ProvenStatement(
        type=named.type,
        kind=kind_of(named.type),
        statement=statement,
        digest=named.digest,
        signers=frozenset(signers),
    )


def _subject(statement: Statement) -> str:
    first = statement.subjects[0].digests
    # Of an algorithm that nobody knows, a digest may be of any length.
    return ", ".join(
        _shown(f"{name}:{value}") for name, value in list(first.items())[:4]
    )


def _shown(text: str) -> str:
    """Return what a document says, as a fact of an error."""
    return text if len(text) <= _MOST_SHOWN and text.isprintable() else plain(text)


def _require_origin(
    case: Case, rule: AttestationRule, statement: ProvenStatement
) -> None:
    """Refuse provenance by a builder, or from a source, that the rule does not name.

    Raises:
        AttestationError: it names another, or none.
    """
    if not rule.builders and not rule.sources:
        return
    from margo_supplychain.provenance.documents import (
        builder_of,
        repository,
        sources_of,
    )

    try:
        builder = builder_of(statement.statement)
        sources = sources_of(statement.statement)
    except FormatError as why:
        raise AttestationError(
            f"attestation {statement.digest.short} of {case.label}: {why}",
            reason="envelope",
            type_=statement.type,
        ) from why
    # check 4.20: built by whom the offline key trusts
    if rule.builders and builder not in rule.builders:
        raise _other_origin(case, statement, "builder", builder, rule.builders)
    allowed = {repository(one) for one in rule.sources}
    # check 4.21: of sources from nowhere else
    if allowed and not (sources and allowed.issuperset(sources)):
        other = next((one for one in sources if one not in allowed), None)
        raise _other_origin(case, statement, "source", other, rule.sources)


def _other_origin(
    case: Case,
    statement: ProvenStatement,
    what: str,
    found: str | None,
    wanted: tuple[str, ...],
) -> AttestationError:
    said = "none" if found is None else quoted(found)
    return AttestationError(
        f"attestation {statement.digest.short} of {case.label} names the {what} "
        f"{said}, its publisher allows {', '.join(wanted)}",
        reason="statement-rule",
        type_=statement.type,
        found="none" if found is None else _shown(found),
        wanted=", ".join(wanted),
    )
