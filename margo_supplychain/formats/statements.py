"""in-toto Statements: which artifacts a predicate is about. Says nothing about truth.

Versions 1 and 0.1 (https://in-toto.io/Statement/v1, …/v0.1) are read, version 1 is
written. Fields that are not known are skipped, as the attestation framework demands
(spec/v1/README.md, "Parsing rules"): they may add facts, never take any away. Subjects
are matched by digest alone; whoever uses a statement asks `Statement.is_about`.

Example:
    >>> data = statement_bytes(
    ...     [Subject("manifest", {"sha256": "0" * 64})], "https://example.com/x", {})
    >>> parse_statement(data, what="example", limit=1000).predicate_type
    'https://example.com/x'
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.errors import FormatError, StatementFormatError
from margo_supplychain.formats import fields, strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from margo_supplychain.formats.digests import Digest

STATEMENT: Final = "https://in-toto.io/Statement/v1"
STATEMENT_V01: Final = "https://in-toto.io/Statement/v0.1"
STATEMENTS: Final = frozenset({STATEMENT, STATEMENT_V01})

MAX_TYPE: Final = 256  # characters, as in a release record
MAX_DIGESTS: Final = 32  # of one subject
SPREAD: Final = 8  # bytes for each JSON value, as SBOMs without white space have them
_LENGTHS: Final = {"sha256": 64, "sha384": 96, "sha512": 128}
_HEX: Final = re.compile(r"[0-9a-f]+", re.ASCII)


class Subject(NamedTuple):
    """One artifact that a statement is about.

    Args:
        name: as the statement calls it; empty when it does not.
        digests: by algorithm, at least one; those of sha256, sha384 and sha512 are
            lower-case hex of their length.
    """

    name: str
    digests: Mapping[str, str]


class Statement(NamedTuple):
    """A well-formed statement, unverified.

    Args:
        subjects: at least one.
        predicate_type: a URI.
        predicate: parsed JSON, unverified; may hold fractions.
    """

    subjects: tuple[Subject, ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    def is_about(self, digest: Digest) -> bool:
        """Say whether a subject has this digest."""
        return any(
            one.digests.get(digest.algorithm) == digest.hex for one in self.subjects
        )


def parse_statement(payload: bytes, *, what: str, limit: int) -> Statement:
    """Parse unverified bytes as a Statement.

    Args:
        payload: of an envelope, exact bytes.
        what: names the statement in errors.
        limit: most bytes that are looked at.

    Raises:
        StatementFormatError: not strict JSON, of another `_type`, without subjects or
            with one without a digest, without a predicate type.
    """
    raw = strict_json.parse(
        payload,
        what=what,
        limit=limit,
        error=StatementFormatError,
        spread=SPREAD,
        fractions=True,
    )
    return statement_of(raw, what=what)


def statement_of(raw: Mapping[str, Any], *, what: str) -> Statement:
    """Return the statement that parsed JSON is (see `parse_statement`)."""
    kind = raw.get("_type")
    if not isinstance(kind, str) or kind not in STATEMENTS:
        raise StatementFormatError(
            f"{what} is of type {kind!r:.80}, expected {STATEMENT}"
        )
    values = raw.get("subject")
    if not isinstance(values, list) or not values:
        raise StatementFormatError(f"{what} has no list of subjects, expected one")
    predicate = raw.get("predicate", {})
    if not isinstance(predicate, dict):
        raise StatementFormatError(f"{what} has a predicate that is no object")
    return Statement(
        subjects=_subjects(values, what),
        predicate_type=_predicate_type(raw.get("predicateType"), what),
        predicate=predicate,
    )


def statement_bytes(
    subjects: Iterable[Subject], predicate_type: str, predicate: Mapping[str, Any]
) -> bytes:
    """Return a Statement v1; the same statement always gives the same bytes.

    Raises:
        StatementFormatError: it would not be read back.
    """
    value = {
        "_type": STATEMENT,
        "subject": [
            {"name": one.name, "digest": dict(one.digests)} for one in subjects
        ],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }
    statement_of(value, what="the statement")
    return strict_json.canonical(value)


def _predicate_type(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise StatementFormatError(f"{what} has no predicate type")
    try:
        return fields.reference(value, what="its predicate type", limit=MAX_TYPE)
    except FormatError as why:
        raise StatementFormatError(f"{what}: {why}") from why


def _subjects(values: Iterable[object], what: str) -> tuple[Subject, ...]:
    found: list[Subject] = []
    for one in values:
        try:
            found.append(_subject(one))
        except StatementFormatError as why:
            place = f"subject {len(found) + 1} of {what}"
            raise StatementFormatError(f"{place} {why}") from why
    return tuple(found)


def _subject(value: object) -> Subject:
    if not isinstance(value, dict):
        raise StatementFormatError("is no object")
    name = value.get("name", "")
    if not isinstance(name, str):
        raise StatementFormatError(f"has the name {name!r:.80}, expected text")
    digests = value.get("digest")
    if not isinstance(digests, dict) or not 0 < len(digests) <= MAX_DIGESTS:
        raise StatementFormatError(f"has no digest, expected 1 to {MAX_DIGESTS}")
    for algorithm, found in digests.items():
        length = _LENGTHS.get(algorithm)
        if not isinstance(found, str) or not found:
            raise StatementFormatError(
                f"has the {algorithm!a:.80} {found!r:.80}, expected text"
            )
        if length is not None and (
            len(found) != length or _HEX.fullmatch(found) is None
        ):
            raise StatementFormatError(
                f"has the {algorithm} {found!r:.160}, expected {length} lower-case hex "
                "digits"
            )
    return Subject(name, digests)
