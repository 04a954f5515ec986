"""What `targets` and publishers sign beside their delegations; devices ignore it.

    x-left      keys that left a role, by material: they never return, also where old
                versions were cleared away and when the role itself was removed
    x-cut-off   roles whose keys were taken away before the new ones signed, and
                applications that were removed; with the last file from which their
                holder goes on
    x-holders   who holds the keys (`holders`)

What a delegator remembers is bounded by `remembered`, far below what is read: a key
that must go is noted whatever was noted before, and of too many the oldest are
forgotten. Else whoever fills that list would keep everybody from taking his keys away.

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
    from collections.abc import Collection, Iterable, Mapping, Sequence

LEFT: Final = "x-left"
"""A field of targets and publishers: role → material of the keys that left it."""
CUT_OFF: Final = "x-cut-off"
"""A field of targets and publishers: role → what `CutOff` says of it."""
MAX_ROLES: Final = 100_000  # of one field; a publisher has a few thousand applications
MAX_LEFT: Final = 100_000  # keys of one role that are read
MOST_LEFT: Final = 256
"""Keys of one role that are written: nobody rotates that often."""
MOST_LEFT_BYTES: Final = 9 << 20
"""And of all roles of one delegator, of the 16 MiB that devices read of it."""
_BYTES_OF_A_KEY: Final = 67  # its material, quoted, and a comma
_MATERIAL: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


def left_keys(signed: Root | Targets) -> Mapping[str, frozenset[str]]:
    """Return the material of the keys that left each role; empty for root.

    Raises:
        MetadataFormatError: the field is there, and not what `note_left` makes.
    """
    return {role: frozenset(keys) for role, keys in left_in_order(signed).items()}


def left_in_order(signed: Root | Targets) -> Mapping[str, Sequence[str]]:
    """Return the same as it is written: what left last comes last.

    Raises:
        MetadataFormatError: as `left_keys`.
    """
    fields = _field(signed, LEFT)
    if fields is None:
        return {}
    return {
        role: tuple(fields.list_of(role, _material, limit=MAX_LEFT))
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


def note_left(signed: Targets, left: Mapping[str, Iterable[str]]) -> Mapping[str, int]:
    """Let a role say of more keys, by material, that they left; to be signed.

    Returns:
        Role → how many of its keys that left long ago are said no more; see
        `remembered`.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    known = left_in_order(signed)
    kept = remembered(known, left)
    if kept:
        signed.unrecognized_fields[LEFT] = {
            role: list(keys) for role, keys in sorted(kept.items())
        }
    return forgotten(known, left, kept)


def forget_left(signed: Targets, role: str) -> None:
    """Let a role say nothing more of the keys of another one, which never signed.

    Raises:
        MetadataFormatError: what it says already can't be read.
    """
    known = left_in_order(signed)
    if role not in known:
        return
    kept = {name: list(keys) for name, keys in known.items() if name != role}
    if kept:
        signed.unrecognized_fields[LEFT] = kept
    else:
        del signed.unrecognized_fields[LEFT]


def remembered(
    known: Mapping[str, Iterable[str]], left: Mapping[str, Iterable[str]]
) -> Mapping[str, Sequence[str]]:
    """Return which keys a delegator says to have left, when more have left.

    Of each role at most `MOST_LEFT`, and of all of them as many as fit: the newest,
    and of each role at least one. So a role with few keys loses none to one with many.

    Args:
        known: role → keys that left before, the oldest first.
        left: those that leave now.
    """
    found = {
        role: list(dict.fromkeys((*known.get(role, ()), *left.get(role, ()))))
        for role in (*known, *(one for one in left if one not in known))
    }
    return newest_of(found, MOST_LEFT_BYTES)


def newest_of(
    keys: Mapping[str, Sequence[str]], room: int
) -> Mapping[str, Sequence[str]]:
    """Return the newest keys of each role, as many of each as fit; at least one."""
    low, high = 1, MOST_LEFT
    while low < high:
        middle = (low + high + 1) // 2
        if left_size(keys, most=middle) <= room:
            low = middle
        else:
            high = middle - 1
    return {role: tuple(some[-low:]) for role, some in keys.items()}


def left_size(keys: Mapping[str, Collection[str]], *, most: int = MAX_LEFT) -> int:
    """Return about how many bytes of a delegator a list of keys takes.

    Args:
        keys: role → keys.
        most: of one role.
    """
    return sum(
        len(role) + 8 + min(len(some), most) * _BYTES_OF_A_KEY
        for role, some in keys.items()
    )


def forgotten(
    known: Mapping[str, Iterable[str]],
    left: Mapping[str, Iterable[str]],
    kept: Mapping[str, Iterable[str]],
) -> Mapping[str, int]:
    """Return role → how many of the keys that left it are not among those kept."""
    found = {}
    for role in {**known, **left}:
        said = {*known.get(role, ()), *left.get(role, ())}
        gone = len(said.difference(kept.get(role, ())))
        if gone:
            found[role] = gone
    return found


def forgets(what: str, role: str, count: int) -> str:
    """Return what people are told of keys that are forgotten."""
    return (
        f"{what} remembers of {role[:160]} the keys that left last, at most "
        f"{MOST_LEFT}: {count} that left before are forgotten, and could be given back "
        "once old versions are cleared away"
    )


def returns(publisher: str) -> str:
    """Return what people are told of a publisher that was removed and comes back."""
    return (
        f"{publisher} was a publisher here before, and begins anew: its policies with "
        "their epochs, its releases and withdrawals are forgotten; only devices that "
        "saw a withdrawal remember it, so what was withdrawn must not come back"
    )


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
