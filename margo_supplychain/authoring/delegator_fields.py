"""What `targets` and publishers sign beside their delegations; devices ignore it.

    x-left      keys that left a role, by material: they never return, also where old
                versions were cleared away and when the role itself was removed
    x-cut-off   roles whose keys were taken away before the new ones signed, and
                applications that were removed; with the last file from which their
                holder goes on
    x-holders   who holds the keys (`holders`)

Example:
    >>> left_keys(targets)  # doctest: +SKIP
    {'acme': frozenset({'71c5…'})}
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from tuf.api.metadata import MetaFile, Root, Targets

from margo_supplychain.errors import MetadataFormatError
from margo_supplychain.formats.fields import Fields

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LEFT: Final = "x-left"
"""A field of targets and publishers: role → material of the keys that left it."""
CUT_OFF: Final = "x-cut-off"
"""A field of targets and publishers: role → what `CutOff` says of it."""
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


class CutOff(NamedTuple):
    """A role that was given keys that had not signed what is listed of it, or none.

    Args:
        listed: what the snapshot listed of it then.
        last: the last file that the keys before them signed, from which their holder
            goes on; None if the role begins anew.
    """

    listed: MetaFile
    last: MetaFile | None


def cut_off(signed: Root | Targets, role: str) -> CutOff | None:
    """Return what a delegator says of a role that it cut off; None if it did not.

    Raises:
        MetadataFormatError: the field is there, and not what `note_cut_off` makes.
    """
    fields = _field(signed, CUT_OFF)
    if fields is None or not fields.has(role):
        return None
    return _cut_off(fields, role)


def cut_offs(signed: Root | Targets) -> Mapping[str, CutOff]:
    """Return what a delegator says of all roles that it cut off.

    Raises:
        MetadataFormatError: as `cut_off`, for any of them.
    """
    fields = _field(signed, CUT_OFF)
    if fields is None:
        return {}
    return {role: _cut_off(fields, role) for role in fields.value}


def cut_off_at(signed: Root | Targets, role: str) -> MetaFile | None:
    """Return the file from which the holder of a role that was cut off goes on.

    None if it was not cut off, or begins anew (`cut_off` tells which).

    Raises:
        MetadataFormatError: as `cut_off`.
    """
    found = cut_off(signed, role)
    return None if found is None else found.last


def needed_files(signed: Root | Targets) -> Mapping[str, int]:
    """Return role → version of the files that holders of cut-off roles go on from.

    Nothing of what can't be read: nobody could go on from it.
    """
    found = {}
    try:
        fields = _field(signed, CUT_OFF)
        for role in () if fields is None else fields.value:
            last = cut_off_at(signed, role)
            if last is not None:
                found[role] = last.version
    except MetadataFormatError:
        return {}
    return found


def is_awaited(signed: Root | Targets, role: str, listed: MetaFile) -> bool:
    """Say whether a role that was cut off waits for its new keys to sign.

    Args:
        signed: who delegates to it.
        role: which one; what is listed is not signed by its keys.
        listed: what the snapshot lists of it; anything else than then is another
            matter.
    """
    try:
        found = cut_off(signed, role)
    except MetadataFormatError:
        return False
    return found is not None and found.listed == listed


def note_cut_off(signed: Targets, role: str, what: CutOff) -> None:
    """Let a role say that another one is cut off.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    fields = _field(signed, CUT_OFF)
    known: dict[str, Any] = {} if fields is None else dict(fields.value)
    known[role] = {"listed": what.listed.to_dict()}
    if what.last is not None:
        known[role]["last"] = what.last.to_dict()
    signed.unrecognized_fields[CUT_OFF] = known


def forget_cut_off(signed: Targets, role: str) -> None:
    """Let a role say no more that another one is cut off.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    fields = _field(signed, CUT_OFF)
    if fields is None or role not in fields.value:
        return
    known = {name: one for name, one in fields.value.items() if name != role}
    if known:
        signed.unrecognized_fields[CUT_OFF] = known
    else:
        del signed.unrecognized_fields[CUT_OFF]


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


def _cut_off(fields: Fields, role: str) -> CutOff:
    found = fields.object(role)
    listed = _file(found.object("listed"))
    last = _file(found.object("last")) if found.has("last") else None
    found.done()
    return CutOff(listed, last)


def _file(fields: Fields) -> MetaFile:
    hashes = fields.object("hashes")
    digest = hashes.parsed("sha256", _material)
    version, length = fields.integer("version"), fields.integer("length")
    for one in (fields, hashes):
        one.done()
    if version < 1 or length < 1:
        raise MetadataFormatError(f"{fields.what} is v{version} with {length} bytes")
    return MetaFile(version=version, length=length, hashes={"sha256": digest})


def _material(text: str) -> str:
    if _MATERIAL.fullmatch(text) is None:
        raise MetadataFormatError(f"{text[:80]!r} is not 64 hexadecimal digits")
    return text
