"""Signatures around a payload that stays: in one form, and nothing beside them.

Nobody signs what stands around the payload, and no signer is shown it. So there is
nothing but signatures, each in the one form that every TUF client reads: hex in lower
case. Python's `bytes.fromhex` skips blanks, others don't, and a root that some devices
can't read locks them out. Placeholders (a key id with an empty signature), by which
tuf-on-ci says who shall sign, stay.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from margo_supplychain.formats.tuf_metadata import RoleFile

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})*")
_AGAIN: Final = (
    "somebody changed the file around what is signed: ask whoever sent it for it "
    "again; nothing was changed"
)


def check_signatures(file: RoleFile[Any]) -> None:
    """Refuse signatures that are not lower-case hex: not every client reads others.

    Args:
        file: what is published once it is signed; its signatures may be placeholders.

    Raises:
        MetadataFormatError: names the first.
    """
    for keyid, one in file.metadata.signatures.items():
        if _HEX.fullmatch(one.signature) is None:
            raise MetadataFormatError(
                f"the signature of key {keyid[:12]!r} in {file.label} is not "
                "lower-case hex",
                hint=_AGAIN,
            )


def check_envelope(file: RoleFile[Any]) -> None:
    """Refuse what nobody signs: fields beside the payload, or in a signature.

    Args:
        file: unverified.

    Raises:
        MetadataFormatError: names the first.
    """
    check_signatures(file)
    places = [(file.metadata.unrecognized_fields, file.label)]
    for keyid, one in file.metadata.signatures.items():
        where = f"the signature of key {keyid[:12]!r} in {file.label}"
        places.append((one.unrecognized_fields, where))
    for fields, where in places:
        for name in fields:
            raise MetadataFormatError(
                f"{where} has the field {name[:80]!r}, which nobody signs", hint=_AGAIN
            )


def entries_of(data: bytes) -> list[dict[str, Any]]:
    """Return the signatures of a well-formed file, as they stand there."""
    found: list[dict[str, Any]] = _read(data)["signatures"]
    return found


def with_entries(data: bytes, entries: Iterable[Mapping[str, Any]]) -> bytes:
    """Return a file with more signatures; in whatever order, the same bytes.

    Args:
        data: a well-formed file.
        entries: more signatures, of the same payload.
    """
    found = {one["keyid"]: one for one in entries_of(data)}
    for one in entries:
        kept = found.get(one["keyid"])
        # Of two valid ones the smaller stays; a placeholder gives way.
        if kept is None or not kept["sig"] or "" < one["sig"] < kept["sig"]:
            found[one["keyid"]] = dict(one)
    ordered = [found[keyid] for keyid in sorted(found)]
    return strict_json.canonical({**_read(data), "signatures": ordered})


def _read(data: bytes) -> dict[str, Any]:
    return strict_json.parse(data, what="root", limit=LIMITS.root)
