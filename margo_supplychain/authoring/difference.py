"""What a proposed root changes, and what that means, in plain words.

Somebody who holds a key sees this before signing, and it is made from the bytes that
are signed alone: no file, no server and no proposer says what they would do. Whatever
differs between the two roots has a row, also what another tool wrote there.

Example:
    >>> for row in proposal.difference().rows(shown, now=now):  # doctest: +SKIP
    ...     print(*row)
    root - 4f1a09c2e77b  holder A, file leaves: signs this change and nothing after it
    expiry  2028-11-20 10:00 (was 2027-11-21 09:30)
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain import threshold
from margo_supplychain.authoring.effects import effects_of, expires_soon, renewals
from margo_supplychain.authoring.field_changes import FieldChange, field_changes
from margo_supplychain.authoring.holders import NOBODY, known_holders
from margo_supplychain.authoring.plan import TOP_ROLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.formats.tuf_metadata import RoleFile

LEAVES: Final = "leaves"
COMES: Final = "comes"
STAYS: Final = "stays"
CLOCKS: Final = timedelta(minutes=5)  # machines that are set by hand differ by less
_MARKS: Final = {LEAVES: "-", COMES: "+", STAYS: "="}


class KeyChange(NamedTuple):
    """One key and what happens to it.

    Args:
        keyid: the key's id.
        change: `leaves`, `comes` or `stays`.
        roles: the top-level roles in which that happens.
        holder: who holds it, and how, as far as the roots say.
        known: it comes to these roles, and has or had another one already.
        meaning: what it means, or nothing.
    """

    keyid: str
    change: str
    roles: tuple[str, ...]
    holder: Holder
    known: tuple[str, ...]
    meaning: str


class Threshold(NamedTuple):
    """How many of how many keys sign a role, before and afterwards."""

    role: str
    before: int | None
    before_of: int | None
    needed: int
    keys: int

    @property
    def changes(self) -> bool:
        """Whether it is another number than before."""
        return self.before != self.needed or self.before_of != self.keys

    @property
    def text(self) -> str:
        """`2 of 3 (unchanged)`, `1 of 3 (was 2 of 3: fewer people decide)`."""
        found = f"{self.needed} of {self.keys}"
        if self.before is None:
            return found
        if not self.changes:
            return f"{found} (unchanged)"
        fewer = ": fewer decide" if self.needed < self.before else ""
        return f"{found} (was {self.before} of {self.before_of}{fewer})"


class Row(NamedTuple):
    """One line for people: what it is about, what changes, and what that means."""

    label: str
    text: str
    meaning: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What a root changes of the one before it, which is None for a first root.

    Args:
        before, version: the versions of both roots.
        keys: those that leave, that come, then that stay.
        thresholds: of each top-level role.
        issued: from when the proposed root's time counts.
        expired, expires: when the roots expire.
        fields: what else differs.
        renewals: the roles that must be signed again at once.
        effects: what it means for devices and for people.
    """

    before: int | None
    version: int
    keys: tuple[KeyChange, ...]
    thresholds: tuple[Threshold, ...]
    issued: datetime | None
    expired: datetime | None
    expires: datetime
    fields: tuple[FieldChange, ...]
    renewals: tuple[str, ...]
    effects: tuple[str, ...]

    def rows(self, shown: Callable[[datetime], str], *, now: datetime) -> Iterator[Row]:
        """Yield everything for people.

        Args:
            shown: how a time is shown; to the minute, which may be what changes.
            now: what the signer's clock says.
        """
        for role in _order({one.roles for one in self.keys}):
            label = ", ".join(role)
            for one in self.keys:
                # What stays is the ground, not the change; of a first root all comes.
                if one.roles == role and one.change != STAYS:
                    yield Row(label, _key_text(one), one.meaning)
                    label = ""
                    if one.change == COMES and one.holder != NOBODY:
                        yield Row("", f"  {one.holder.text}")
        for found in self.thresholds:
            if found.role == "root":
                yield Row("threshold", found.text)
            elif found.changes:
                yield Row("threshold", f"{found.role} {found.text}")
        if self.issued is not None and self.issued > now + CLOCKS:
            ahead = (self.issued - now) // timedelta(minutes=1)
            text = f"{shown(self.issued)}, {ahead} min ahead of your clock"
            yield Row("issued", text)
        yield Row("expiry", self._expiry(shown))
        for field in self.fields:
            yield Row(field.what, field.text)
        for effect in (*expires_soon(self.expires, now), *self.effects):
            yield Row("effect", effect)

    def _expiry(self, shown: Callable[[datetime], str]) -> str:
        now = shown(self.expires)
        if self.expired is None:
            return now
        was = shown(self.expired)
        earlier = ": earlier" if self.expires < self.expired else ""
        return f"{now} (was {was}{earlier})"

    def to_dict(self) -> dict[str, Any]:
        """Return everything for programs."""
        return {
            "before": self.before,
            "version": self.version,
            "keys": [
                {
                    "keyId": one.keyid,
                    "change": one.change,
                    "roles": list(one.roles),
                    "holder": one.holder.to_dict(),
                    "meaning": one.meaning or None,
                }
                for one in self.keys
            ],
            "thresholds": [
                {
                    "role": one.role,
                    "before": one.before,
                    "beforeOf": one.before_of,
                    "needed": one.needed,
                    "of": one.keys,
                }
                for one in self.thresholds
            ],
            "issued": self.issued,
            "expiresBefore": self.expired,
            "expires": self.expires,
            "fields": [one._asdict() for one in self.fields],
            "signAgain": list(self.renewals),
            "effects": list(self.effects),
        }


def between(before: RoleFile[Root] | None, after: RoleFile[Root]) -> Difference:
    """Return what a proposed root changes.

    Args:
        before: the trusted root; None for a first root.
        after: the proposed root, which locks nobody out.
    """
    old, new = None if before is None else before.signed, after.signed
    renewed = () if old is None else renewals(old, new)
    return Difference(
        before=None if before is None else before.version,
        version=after.version,
        keys=tuple(_keys(old, new)),
        thresholds=tuple(_threshold(old, new, role) for role in TOP_ROLES),
        issued=after.issued,
        expired=None if before is None else before.expires,
        expires=after.expires,
        fields=tuple(field_changes(old, new)),
        renewals=renewed,
        effects=effects_of(old, new, renewed),
    )


def _key_text(one: KeyChange) -> str:
    if one.change == COMES:
        # Whole: its holder reads it aloud, and who has time finds a key whose id begins
        # like hers. Another line has room for who she is.
        return f"{_MARKS[COMES]} {one.keyid}"
    text = f"{_MARKS[one.change]} {one.keyid[:12]}"
    return f"{text}  {one.holder.text}" if one.holder != NOBODY else text


def _order(found: set[tuple[str, ...]]) -> list[tuple[str, ...]]:
    return sorted(found, key=lambda roles: [TOP_ROLES.index(one) for one in roles])


def _keys(old: Root | None, new: Root) -> Iterator[KeyChange]:
    """Yield changes, by material: a key under another id neither leaves nor comes."""
    before, after = _roles_by_material(old), _roles_by_material(new)
    said_before = {} if old is None else known_holders(old)
    said = known_holders(new)
    found: dict[str, list[KeyChange]] = {LEAVES: [], COMES: [], STAYS: []}
    for one in dict.fromkeys([*before, *after]):
        had, has = before.get(one, {}), after.get(one, {})
        known = tuple(had)
        for change, roles in (
            (LEAVES, [role for role in had if role not in has]),
            (COMES, [role for role in has if role not in had]),
            (STAYS, [role for role in has if role in had]),
        ):
            if roles:
                # Who leaves is named as the trusted root does, whatever is proposed.
                shown = (had if change == LEAVES else has)[roles[0]]
                names = said_before if change == LEAVES else said
                holder = names.get(shown, NOBODY)
                meaning = _meaning(change, roles)
                entry = KeyChange(shown, change, tuple(roles), holder, known, meaning)
                found[change].append(entry)
    for changes in found.values():
        yield from changes


def _roles_by_material(root: Root | None) -> dict[str, dict[str, str]]:
    """Return material → role → key id."""
    found: dict[str, dict[str, str]] = {}
    for role in TOP_ROLES if root is not None else ():
        for keyid in root.roles[role].keyids if root is not None else ():
            one = threshold.material(root.keys[keyid]) if root is not None else ""
            found.setdefault(one, {})[role] = keyid
    return found


def _meaning(change: str, roles: list[str]) -> str:
    if change != LEAVES:
        return ""
    if "root" in roles:
        return "leaves: signs this change and nothing after it"
    return "leaves: what it signed counts no more"


def _threshold(old: Root | None, new: Root, role: str) -> Threshold:
    before = None if old is None else old.roles[role]
    after = new.roles[role]
    return Threshold(
        role=role,
        before=None if before is None else before.threshold,
        before_of=None if before is None else len(before.keyids),
        needed=after.threshold,
        keys=len(after.keyids),
    )
