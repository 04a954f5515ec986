"""in-toto links: what one step took and made, as its functionary says.

Read are the link of in-toto's specification 0.9 and 1.0 (`_type: link`), which most
tools write, and the Statement with a link predicate (in-toto attestation framework,
predicates/link.md, version 0.3). Whoever verified the envelope passes its payload:
nothing here says that a link is true, or whose it is.

A functionary may not answer with a layout of his own (a *sublayout*): whoever holds a
step's key could otherwise redefine the step.

Example:
    >>> link = parse_link(
    ...     b'{"_type":"link","name":"test","materials":{},"products":{}}',
    ...     payload_type="application/vnd.in-toto+json", what="example")
    >>> link.name, dict(link.products)
    ('test', {})
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import (
    FormatError,
    MetadataFormatError,
    ProvenanceError,
)
from margo_supplychain.formats import predicates, statements, strict_json
from margo_supplychain.formats.dsse import MAX_ENVELOPE, PAYLOAD, is_in_toto
from margo_supplychain.provenance.artifacts import (
    Hashes,
    check_look_alikes,
    check_names,
    read_hashes,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_COMMAND: Final = 10_000  # arguments
MAX_STEP_NAME: Final = 200  # characters
_SPREAD: Final = 16  # bytes for each JSON value; an artifact with two has 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """What one functionary says of one step; unverified.

    Args:
        name: the step's.
        materials: by artifact name, what the step took.
        products: what it made or left.
        command: informs, decides nothing.
    """

    name: str
    materials: Mapping[str, Hashes]
    products: Mapping[str, Hashes]
    command: tuple[str, ...]


def parse_link(payload: bytes, *, payload_type: str, what: str) -> Link:
    """Parse the payload of a verified envelope as a link of either form.

    Args:
        payload: exact bytes; parsed once their signature was verified, for this costs
            memory.
        payload_type: of the envelope.
        what: names the link in errors.

    Raises:
        ProvenanceError: `payload-type`, `sublayout`, `predicate-type`, `envelope` (no
            strict JSON, or not a link's fields), `artifact-name`, `digest-algorithm`.
    """
    # check 4.47: what was signed as something else is no link
    if not is_in_toto(payload_type):
        raise ProvenanceError(
            f"{what} has the payload type {payload_type!r:.160}, expected {PAYLOAD}",
            reason="payload-type",
            found=payload_type[:160],
            wanted=PAYLOAD,
        )
    try:
        raw = strict_json.parse(
            payload, what=what, limit=MAX_ENVELOPE, spread=_SPREAD, fractions=True
        )
        kind = raw.get("_type")
        # check 4.48: whoever holds a step's key does not redefine the step
        if kind == "layout":
            raise ProvenanceError(
                f"{what} holds a layout (a sublayout), expected a link",
                reason="sublayout",
                found="a layout",
                wanted="a link",
                hint="record the step itself: devices take no sublayouts",
            )
        if kind == "link":
            return _plain(raw, what)
        return _from_statement(raw, what)
    except FormatError as why:
        raise ProvenanceError(
            f"{why}",
            reason="envelope",
            wanted="an in-toto link",
            hint="record the step again",
        ) from why


def _plain(raw: Mapping[str, Any], what: str) -> Link:
    return _link(
        name=raw.get("name"),
        materials=_artifacts(raw.get("materials"), f"materials of {what}"),
        products=_artifacts(raw.get("products"), f"products of {what}"),
        command=raw.get("command"),
        what=what,
    )


def _from_statement(raw: Mapping[str, Any], what: str) -> Link:
    statement = statements.statement_of(raw, what=what)
    # check 4.49: a statement of another kind is no link, whatever its fields
    if statement.predicate_type != predicates.LINK:
        raise ProvenanceError(
            f"{what} is a statement of type {statement.predicate_type}, expected "
            f"{predicates.LINK}",
            reason="predicate-type",
            found=statement.predicate_type,
            wanted=predicates.LINK,
        )
    materials, products = f"materials of {what}", f"products of {what}"
    return _link(
        name=statement.predicate.get("name"),
        materials=_described(statement.predicate.get("materials", []), materials),
        products=_described(raw["subject"], products),
        command=statement.predicate.get("command"),
        what=what,
    )


def _artifacts(value: object, what: str) -> Mapping[str, Any]:
    # Go writes null for a map that nothing was put into.
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise MetadataFormatError(f"{what} are no object, expected names and digests")
    return value


def _described(values: object, what: str) -> Mapping[str, Any]:
    """Return name → digests of resource descriptors (predicates/link.md)."""
    if not isinstance(values, list):
        raise MetadataFormatError(f"{what} are no list, expected names and digests")
    found: dict[str, Any] = {}
    for one in values:
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise MetadataFormatError(f"{what} have one without a name")
        if name in found:
            raise MetadataFormatError(f"{what} name {ascii(name)[:160]} twice")
        found[name] = one.get("digest")
    return found


def _link(
    *,
    name: object,
    materials: Mapping[str, Any],
    products: Mapping[str, Any],
    command: object,
    what: str,
) -> Link:
    if not isinstance(name, str) or not 0 < len(name) <= MAX_STEP_NAME:
        raise MetadataFormatError(
            f"{what} names the step {name!r:.80}, expected text of 1 to "
            f"{MAX_STEP_NAME} characters"
        )
    arguments = [] if command is None else command
    if (
        not isinstance(arguments, list)
        or len(arguments) > MAX_COMMAND
        or not all(isinstance(one, str) for one in arguments)
    ):
        raise MetadataFormatError(
            f"{what} has the command {command!r:.80}, expected up to {MAX_COMMAND} "
            "texts"
        )
    check_names(materials, what=f"materials of {what}")
    check_names(products, what=f"products of {what}")
    check_look_alikes([*materials, *products], what=what)
    return Link(
        name=name,
        materials=read_hashes(materials, what=f"materials of {what}"),
        products=read_hashes(products, what=f"products of {what}"),
        command=tuple(arguments),
    )
