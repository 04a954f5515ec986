"""Signatures around a payload that stays: written anew, nothing of the file is lost.

What other tools put there is carried along: their fields beside `signed`, and
placeholders (a key id without a signature), by which tuf-on-ci says who shall sign.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def entries_of(data: bytes) -> list[dict[str, Any]]:
    """Return the signatures of a well-formed file, as they stand there."""
    found: list[dict[str, Any]] = _read(data)["signatures"]
    return found


def with_entries(
    data: bytes, entries: Iterable[Mapping[str, Any]], of: bytes = b"{}"
) -> bytes:
    """Return a file with more signatures; in whatever order, the same bytes.

    Args:
        data: a well-formed file.
        entries: more signatures, of the same payload.
        of: where they come from: what that file says around its payload comes along.
    """
    found = {one["keyid"]: one for one in entries_of(data)}
    for one in entries:
        kept = found.get(one["keyid"])
        # Of two valid ones the smaller stays; a placeholder gives way.
        if kept is None or not kept["sig"] or "" < one["sig"] < kept["sig"]:
            found[one["keyid"]] = dict(one)
    ordered = [found[keyid] for keyid in sorted(found)]
    return strict_json.canonical({**_read(of), **_read(data), "signatures": ordered})


def _read(data: bytes) -> dict[str, Any]:
    return strict_json.parse(data, what="root", limit=LIMITS.root)
