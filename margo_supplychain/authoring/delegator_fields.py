"""What `targets` and publishers sign beside their delegations; devices ignore it.

    x-left      keys that left a role, by material: they never return, also where old
                versions were cleared away and when the role itself was removed
    x-cut-off   the last file of a role whose keys were taken away before the new ones
                signed: what it lists is what their holder goes on from
    x-holders   who holds the keys (`holders`)

Example:
    >>> left_keys(targets)  # doctest: +SKIP
    {'acme': frozenset({'71c5…'})}
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from tuf.api.metadata import MetaFile, Root, Targets

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEFT: Final = "x-left"
"""A field of targets and publishers: role → material of the keys that left it."""
CUT_OFF: Final = "x-cut-off"
"""A field of targets and publishers: role → the last file by keys that were cut off."""
MAX_ROLES: Final = 100_000  # of one field; a publisher has a few thousand applications
MAX_LEFT: Final = 10_000  # keys of one role: nobody rotates that often
_MATERIAL: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def left_keys(signed: Root | Targets) -> Mapping[str, frozenset[str]]:
    """Return the material of the keys that left each role; empty for root.

    Raises:
        MetadataFormatError: the field is there, and not what `note_left` makes.
    """
    fields = _field(signed, LEFT)
    if fields is None:
        return {}
    return {
        role: frozenset(fields.list_of(role, _material, limit=MAX_LEFT))
        for role in fields.value
    }


def known_left(signed: Root | Targets) -> Mapping[str, frozenset[str]]:
    """Return the same, or nothing where it can't be read.

    For what is shown: what one vendor wrote must not end everybody's `status`.
    """
    try:
        return left_keys(signed)
    except MetadataFormatError:
        return {}


def removed_roles(signed: Root | Targets) -> frozenset[str]:
    """Return the roles that were delegated once, and are no more."""
    known = known_left(signed)
    if isinstance(signed, Root) or not known:
        return frozenset()
    delegations = signed.delegations
    roles = {} if delegations is None else delegations.roles or {}
    return frozenset(known) - frozenset(roles)


def note_left(signed: Targets, left: Mapping[str, Iterable[str]]) -> None:
    """Let a role say of more keys, by material, that they left; to be signed.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    known = dict(left_keys(signed))
    for role, materials in left.items():
        known[role] = known.get(role, frozenset()) | frozenset(materials)
    if known:
        signed.unrecognized_fields[LEFT] = {
            role: sorted(found) for role, found in sorted(known.items())
        }


def cut_off_at(signed: Root | Targets, role: str) -> MetaFile | None:
    """Return the last file that the keys of a role signed before they were cut off.

    Raises:
        MetadataFormatError: the field is there, and not what `note_cut_off` makes.
    """
    fields = _field(signed, CUT_OFF)
    if fields is None or not fields.has(role):
        return None
    found = fields.object(role)
    hashes = found.object("hashes")
    digest = Digest("sha256", hashes.parsed("sha256", _material))
    version, length = found.integer("version"), found.integer("length")
    for one in (found, hashes):
        one.done()
    if version < 1 or length < 1:
        raise MetadataFormatError(f"{found.what} is v{version} with {length} bytes")
    return MetaFile(version=version, length=length, hashes={"sha256": digest.hex})


def note_cut_off(signed: Targets, role: str, last: MetaFile | None) -> None:
    """Let a role say which file of another one to go on from; None for nothing.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    fields = _field(signed, CUT_OFF)
    known: dict[str, Any] = {} if fields is None else dict(fields.value)
    known.pop(role, None)
    if last is not None:
        known[role] = last.to_dict()
    if known:
        signed.unrecognized_fields[CUT_OFF] = known
    else:
        signed.unrecognized_fields.pop(CUT_OFF, None)


def _field(signed: Root | Targets, name: str) -> Fields | None:
    value = signed.unrecognized_fields.get(name)
    if value is None:
        return None
    fields = Fields({name: value}, what=signed.type).object(name)
    if len(fields.value) > MAX_ROLES:
        raise MetadataFormatError(
            f"{fields.what} has {len(fields.value)} entries, more than {MAX_ROLES}"
        )
    return fields


def _material(text: str) -> str:
    if _MATERIAL.fullmatch(text) is None:
        raise MetadataFormatError(f"{text[:80]!r} is not 64 hexadecimal digits")
    return text
