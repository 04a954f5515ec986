"""The second tier of step 4: a verification summary in the place of the full chain.

For devices that can't read a chain of megabytes. Which layout is good for a release,
and until when, is judged here all the same; that its links are good is what the summary
says. It counts if somebody signed it whom the publisher's or the device's policy names,
if it is bound to this record and layout, and if it is not too old. Of several, the
newest decides.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from margo_supplychain.errors import (
    AttestationError,
    ClockError,
    FetchError,
    FormatError,
    VerificationError,
)
from margo_supplychain.formats.dsse import Envelope, is_in_toto
from margo_supplychain.formats.plain_text import quoted
from margo_supplychain.formats.predicates import SUMMARY
from margo_supplychain.formats.release_entry import MAX_SUMMARY
from margo_supplychain.formats.statements import parse_statement
from margo_supplychain.formats.times import format_span, format_time
from margo_supplychain.provenance.revocation import revoked_names
from margo_supplychain.provenance.summaries import (
    Bounds,
    Summary,
    check_bounds,
    read_summary,
    resource_of,
)
from margo_supplychain.threshold import distinct_signers
from margo_supplychain.verify.attested import missing
from margo_supplychain.verify.clock import SLACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.publisher_policy import LayoutRule
    from margo_supplychain.provenance.layouts import Layout
    from margo_supplychain.verify.case import Case


class Counted(NamedTuple):
    """A summary that somebody signed who may, about this release.

    Args:
        what: names it in errors.
        signers: ids of the keys that signed it.
        max_age: for how long it counts.
    """

    what: str
    summary: Summary
    signers: frozenset[str]
    max_age: timedelta


def summarised(
    case: Case, rule: LayoutRule | None, layout: Layout | None
) -> dict[str, Any]:
    """Return what a summary proves, as facts for the report.

    Args:
        rule: of the layout that the release was made by; None if none is demanded.
        layout: its file.

    Raises:
        AttestationError: there is no summary, or none that counts.
        ClockError: the clock can't tell how old it is.
        FetchError: none that counts could be had.
    """
    bounds = _bounds(case, rule, layout)
    counted: list[Counted] = []
    problems: list[SupplyChainError] = []
    for what, read in _offered(case):
        try:
            counted.append(_counted(case, bounds, what, read))
        except (VerificationError, FetchError) as why:
            problems.append(why)
    if not counted:
        # A no is said only when all that there is was seen.
        missing = [one for one in problems if isinstance(one, FetchError)]
        raise next(iter(missing or problems), _missing(case))
    # Of the same second, the one that says no.
    newest = max(
        _of_today(case, counted),
        key=lambda one: (one.summary.verified, not one.summary.passed),
    )
    # check 4.28: a summary may also say no
    if not newest.summary.passed:
        raise AttestationError(
            f"{newest.what} says that the release did not pass{_void(counted)}",
            reason="summary-result",
            type_=SUMMARY,
            found="not passed",
            wanted="PASSED",
        )
    _require_young(case, newest)
    return {
        **({"layout digest": str(rule.digest)} if rule is not None else {}),
        "signers": sorted(newest.signers),
        "verifier": newest.summary.verifier,
        "verified": format_time(newest.summary.verified),
    }


def _void(counted: list[Counted]) -> str:
    """Say of those that say yes that they don't count."""
    void = [one for one in counted if one.summary.passed]
    if not void:
        return ""
    of = format_time(max(one.summary.verified for one in void))
    which = f"{void[0].what} of {of} says" if len(void) == 1 else f"{len(void)} say"
    return f"; {which} that it passed, and the newest decides"


def _of_today(case: Case, counted: list[Counted]) -> list[Counted]:
    """Leave out a yes from the future, unless there is nothing else.

    A verifier whose clock is ahead does not stand in the way of another's word. A no
    counts whenever it was said.
    """
    moment = case.walk.workflow.moment
    found = [
        one
        for one in counted
        if not one.summary.passed or one.summary.verified - moment.now <= SLACK
    ]
    # By a clock that can't be believed, nothing is of the future.
    return found if found and moment.believable else counted


def _bounds(case: Case, rule: LayoutRule | None, layout: Layout | None) -> Bounds:
    record = case.record
    statements: dict[str, frozenset[Digest]] = {}
    for demand in case.policy.attestations:
        digests = frozenset(
            one.digest for one in record.attestations if demand.covers(one.type)
        )
        # check 4.29: what the offline key demands is there, whatever a summary says
        if not digests:
            raise missing(case, demand)
        statements[demand.type] = digests
    return Bounds(
        artifact=record.artifact.digest,
        record=case.record_digest,
        resource=resource_of(case.name, record.version),
        inputs={} if rule is None else {rule.digest: f"layout {rule.number}"},
        statements=statements,
        revoked=revoked_names(
            {} if layout is None else layout.keys,
            {one.key: one.survivors for one in case.policy.revoked_functionaries},
            record.release,
        ),
    )


def _offered(case: Case) -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield each summary there is: a name for errors, and what reads it."""
    given = case.summary
    if given is not None:
        yield f"the summary of {case.label} that was given", lambda: given
    if case.entry is not None:
        for one in case.entry.summaries:
            read = partial(case.envelopes.get, one.digest, one.size)
            yield f"summary {one.digest.short} of {case.label}", read


def _missing(case: Case) -> AttestationError:
    return AttestationError(
        f"there is no verification summary of {case.label}, and the device's policy "
        "takes nothing else",
        reason="summary-missing",
        type_=SUMMARY,
        found="none",
        wanted="a summary in the publisher's list, or one that is given",
        hint="give one with --summary, or judge the full chain: provenance = "
        '"full" in device.toml',
    )


def _counted(
    case: Case, bounds: Bounds, what: str, read: Callable[[], bytes]
) -> Counted:
    try:
        envelope = Envelope.parse(read(), what=what, limit=MAX_SUMMARY)
    except FormatError as why:
        own = why.hint if why.hint != why.default_hint else None
        raise AttestationError(
            str(why), reason="envelope", type_=SUMMARY, hint=own
        ) from why
    # check 4.30: a signature over another type of payload says something else
    if not is_in_toto(envelope.payload_type):
        raise AttestationError(
            f"{what} has the payload type {quoted(envelope.payload_type)}",
            reason="payload-type",
            type_=SUMMARY,
            found=envelope.payload_type,
            wanted="an in-toto statement",
        )
    signers, max_age = _signers(case, envelope)
    # check 4.31: somebody says so whom a policy names, and for how long
    if max_age is None:
        raise AttestationError(
            f"{what} is signed by nobody whose summaries the publisher's or the "
            "device's policy takes",
            reason="summary-signature",
            type_=SUMMARY,
            found="no such key",
            wanted="a key of the publisher's summary rule, or of summary-keys in the "
            "device's policy",
        )
    try:
        statement = parse_statement(envelope.payload, what=what, limit=MAX_SUMMARY)
    except FormatError as why:
        raise AttestationError(str(why), reason="envelope", type_=SUMMARY) from why
    summary = read_summary(statement, what=what)
    if not summary.passed:
        # A no is about this release, whatever it got as far as to look at.
        bounds = bounds._replace(inputs={}, statements={}, revoked=frozenset())
    check_bounds(summary, statement, bounds, what=what)
    return Counted(what, summary, signers, max_age)


def _signers(case: Case, envelope: Envelope) -> tuple[frozenset[str], timedelta | None]:
    """Return who signed, and how long that counts; None if it does not."""
    found: set[str] = set()
    ages: list[timedelta] = []
    limit = case.demand.summary_age
    own = {one.keyid: one for one in case.demand.summary_keys}
    signers = distinct_signers(envelope.pae, envelope.signatures, own)
    # The device's keys count for as long as the device says, and not without end.
    if signers and limit is not None:
        found.update(signers.values())
        ages.append(limit)
    rule = case.policy.summary
    if rule is not None:
        signers = distinct_signers(
            envelope.pae, envelope.signatures, case.policy.keys_of(rule)
        )
        # check 4.32 (instead: is_enough = bool(signers)): as many as the rule says
        is_enough = len(signers) >= rule.threshold
        if is_enough:
            found.update(signers.values())
            ages.append(rule.max_age if limit is None else min(rule.max_age, limit))
    return frozenset(found), max(ages, default=None)


def _require_young(case: Case, counted: Counted) -> None:
    """Refuse a summary that is too old.

    Raises:
        AttestationError: by the clock or by a signed time.
        ClockError: only a clock that can't be believed could tell.
    """
    moment = case.walk.workflow.moment
    verified = counted.summary.verified
    known = moment.now if moment.believable else moment.floor
    # check 4.33: what was good then may be known to be bad by now
    if known is not None and known - verified > counted.max_age:
        raise AttestationError(
            f"{counted.what} is of {format_time(verified)}, older than "
            f"{format_span(counted.max_age)}",
            reason="summary-age",
            type_=SUMMARY,
            found=format_time(verified),
            wanted=f"at most {format_span(counted.max_age)} old",
            hint="ask for a newer summary",
        )
    # check 4.34: a clock that can't be believed proves no age, nor does one that is
    # behind whoever made the summary
    if not moment.believable or verified - moment.now > SLACK:
        raise ClockError(
            f"the clock says {format_time(moment.clock)}: it can't tell how old "
            f"{counted.what} of {format_time(verified)} is"
        )
