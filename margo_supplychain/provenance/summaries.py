"""Verification summaries (VSA): somebody else's judgement, read and bound to a release.

A summary says that its verifier judged a release, when, and by which inputs
(https://slsa.dev/verification_summary/v1). It stands for the chain of exactly one
record: its inputs hold the digests of that record, of the layout and of every statement
that is demanded. `x-functionaries`, a field of ours, holds key ids and materials of
those whose links counted, so that revoking one of them reaches older summaries.

Pure: whose signatures count, and what time it is, is for `verify` to say.

Example:
    >>> from margo_supplychain.formats.names import ReleaseName
    >>> from margo_supplychain.formats.versions import Version
    >>> resource_of(ReleaseName.parse("acme/pump"), Version.parse("1.2.0"))
    'margo-supplychain:acme/pump@1.2.0'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import AttestationError, FormatError
from margo_supplychain.formats.fields import reference
from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.formats.predicates import SUMMARY
from margo_supplychain.formats.reports import FUNCTIONARIES, resource_of
from margo_supplychain.formats.times import parse_time

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.statements import Statement

__all__ = ["Bounds", "Summary", "check_bounds", "read_summary", "resource_of"]

MAX_INPUTS: Final = 2_000
MAX_FUNCTIONARIES: Final = 2_000
# Others write fractions of a second; nothing hangs on them.
_FRACTION: Final = re.compile(r"\.[0-9]{1,9}(?=Z\Z)", re.ASCII)


class Summary(NamedTuple):
    """A well-formed summary, unverified.

    Args:
        verifier: a URI, who says so.
        verified: when it was judged.
        resource: what was judged, a URI.
        passed: whether it was found good.
        inputs: `<algorithm>:<hex>` of everything that it was judged by, its policy
            among them: some verifiers name the layout there.
        functionaries: key ids and materials in lower case; None when it does not say.
    """

    verifier: str
    verified: datetime
    resource: str
    passed: bool
    inputs: frozenset[str]
    functionaries: frozenset[str] | None


class Bounds(NamedTuple):
    """What a summary must be about.

    Args:
        artifact, record: digests.
        resource: the release.
        inputs: digest → what it is, for each further input that it must name.
        statements: for each type that is demanded, the digests of those that the
            record names: one of each type must be an input.
        revoked: key ids and materials, in lower case, of functionaries who count no
            more for this artifact.
    """

    artifact: Digest
    record: Digest
    resource: str
    inputs: Mapping[Digest, str]
    statements: Mapping[str, frozenset[Digest]]
    revoked: frozenset[str]


def read_summary(statement: Statement, *, what: str) -> Summary:
    """Read an unverified statement as a summary.

    Raises:
        AttestationError: another predicate type, or a field that is missing or wrong.
    """
    # check 4.22: what was signed as one thing is not taken for another
    if statement.predicate_type != SUMMARY:
        raise AttestationError(
            f"{what} says {quoted(statement.predicate_type)}, expected {SUMMARY}",
            reason="predicate-type",
            type_=SUMMARY,
            found=statement.predicate_type,
            wanted=SUMMARY,
        )
    predicate = statement.predicate
    try:
        return Summary(
            verifier=_text(_object(predicate, "verifier", what), "id", what),
            verified=parse_time(
                _FRACTION.sub("", _text(predicate, "timeVerified", what)),
                what=f"timeVerified of {what}",
            ),
            resource=_text(predicate, "resourceUri", what),
            passed=_text(predicate, "verificationResult", what) == "PASSED",
            inputs=_inputs(predicate, what),
            functionaries=_functionaries(predicate, what),
        )
    except FormatError as why:
        raise AttestationError(str(why), reason="envelope", type_=SUMMARY) from why


def check_bounds(
    summary: Summary, statement: Statement, bounds: Bounds, *, what: str
) -> None:
    """Refuse a summary of anything else than one release, judged as is demanded.

    Raises:
        AttestationError: it is about something else, or leaves something out.
    """
    # check 4.23: it is about these very bytes
    if not statement.is_about(bounds.artifact):
        raise _unbound(what, "is about another artifact", "", str(bounds.artifact))
    # check 4.24: of this application and version
    if summary.resource != bounds.resource:
        raise _unbound(
            what,
            f"is about {quoted(summary.resource)}",
            summary.resource,
            bounds.resource,
        )
    wanted = {bounds.record: "the record", **bounds.inputs}
    for digest, said in wanted.items():
        # check 4.25: judged by this record and this layout, and by no other
        if str(digest) not in summary.inputs:
            raise _unbound(what, f"does not name {said} as input", "", str(digest))
    for type_, digests in bounds.statements.items():
        # check 4.26: with every statement that is demanded
        if not any(str(one) in summary.inputs for one in digests):
            raise _unbound(
                what,
                f"names no statement of type {type_} as input",
                "",
                ", ".join(sorted(map(str, digests))),
            )
    # check 4.27: not by somebody who was revoked since
    if bounds.revoked and (
        not summary.functionaries or summary.functionaries & bounds.revoked
    ):
        lost = sorted(bounds.revoked & (summary.functionaries or frozenset()))
        said = (
            f"counts the revoked functionary {lost[0][:12]}"
            if lost
            else "does not say whose links counted, and functionaries are revoked"
        )
        raise AttestationError(
            f"{what} {said}",
            reason="revoked",
            type_=SUMMARY,
            found=lost[0] if lost else "nobody named",
            wanted="a summary that was made since",
        )


def _unbound(what: str, text: str, found: str, wanted: str) -> AttestationError:
    return AttestationError(
        f"{what} {text}",
        reason="summary-binding",
        type_=SUMMARY,
        found=found or "not named",
        wanted=wanted,
    )


def _object(value: Mapping[str, Any], name: str, what: str) -> Mapping[str, Any]:
    found = value.get(name)
    if not isinstance(found, dict):
        raise FormatError(f"{what} has no object {name}")
    return found


def _text(value: Mapping[str, Any], name: str, what: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise FormatError(f"{what} has no text {name}")
    return reference(found, what=f"{name} of {what}", limit=1_000)


def _inputs(predicate: Mapping[str, Any], what: str) -> frozenset[str]:
    found = predicate.get("inputAttestations", [])
    if not isinstance(found, list) or len(found) > MAX_INPUTS:
        raise FormatError(f"{what} has no list of up to {MAX_INPUTS} inputAttestations")
    inputs: set[str] = set()
    for one in (*found, predicate.get("policy", {"digest": {}})):
        digests = one.get("digest") if isinstance(one, dict) else None
        if not isinstance(digests, dict):
            raise FormatError(f"{what} has an input without a digest")
        inputs.update(f"{name}:{value}" for name, value in digests.items())
    return frozenset(inputs)


def _functionaries(predicate: Mapping[str, Any], what: str) -> frozenset[str] | None:
    found = predicate.get(FUNCTIONARIES)
    if found is None:
        return None
    if (
        not isinstance(found, list)
        or len(found) > MAX_FUNCTIONARIES
        or any(not isinstance(one, str) for one in found)
    ):
        raise FormatError(
            f"{what} has no list of up to {MAX_FUNCTIONARIES} {FUNCTIONARIES}"
        )
    # A layout may write its ids in capitals; whoever revokes one need not.
    return frozenset(one.lower() for one in found)
