"""What else a proposal changes: periods, custody, holders, other tools' fields.

Nothing that is signed may differ between two roots without a row here or in
`difference`: a test changes every value of a proposal, one at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from margo_supplychain.authoring.holders import NOBODY, known_holders
from margo_supplychain.authoring.plan import TOP_ROLES
from margo_supplychain.authoring.root_fields import OURS
from margo_supplychain.formats.plain_text import plain
from margo_supplychain.formats.tuf_metadata import ISSUED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tuf.api.metadata import Root

MAX_OTHERS: Final = 20  # rows about what other tools wrote
_WORDS: Final = {
    "x-periods": "period",
    "x-signing": "signing",
    "x-custody": "custody",
}


class FieldChange(NamedTuple):
    """Something else that root says: a period, a custody, a holder, another tool's."""

    what: str
    name: str
    before: str | None
    after: str | None

    @property
    def text(self) -> str:
        """`timestamp 4d (was 2d)`."""
        if self.after is None:
            return f"{self.name} no longer said (was {self.before})"
        was = "was not said" if self.before is None else f"was {self.before}"
        return f"{self.name} {self.after} ({was})"


def field_changes(old: Root | None, new: Root) -> Iterator[FieldChange]:
    """Yield what a root says otherwise than the one before, besides keys and times."""
    before = {} if old is None else old.unrecognized_fields
    after = new.unrecognized_fields
    for name, what in _WORDS.items():
        yield from _entries(what, before.get(name), after.get(name))
    yield from _holder_changes(old, new)
    others = [*_foreign(old, new)]
    yield from others[:MAX_OTHERS]
    if len(others) > MAX_OTHERS:
        # A flood of them must not carry the rest off the screen.
        yield FieldChange("other", f"{len(others) - MAX_OTHERS} more", None, "differ")


def _foreign(old: Root | None, new: Root) -> Iterator[FieldChange]:
    """Yield what differs besides: other tools' fields."""
    before = {} if old is None else old.unrecognized_fields
    places = [(before, new.unrecognized_fields, "root")]
    for role in TOP_ROLES:
        had = {} if old is None else old.roles[role].unrecognized_fields
        places.append((had, new.roles[role].unrecognized_fields, f"role {role}"))
    for keyid, key in new.keys.items():
        known = None if old is None else old.keys.get(keyid)
        had = {} if known is None else known.unrecognized_fields
        places.append((had, key.unrecognized_fields, f"key {keyid[:12]}"))
    for had, has, where in places:
        for name in sorted(had.keys() | has.keys()):
            if name not in OURS and name != ISSUED and had.get(name) != has.get(name):
                shown = f"{plain(name)} of {where}"
                yield FieldChange("other", shown, _short(had, name), _short(has, name))
    if old is not None and old.spec_version != new.spec_version:
        yield FieldChange("other", "spec_version", old.spec_version, new.spec_version)


def _entries(what: str, before: Any, after: Any) -> Iterator[FieldChange]:
    had = before if isinstance(before, dict) else {}
    has = after if isinstance(after, dict) else {}
    for name in sorted(had.keys() | has.keys()):
        if had.get(name) != has.get(name):
            yield FieldChange(what, plain(name), _short(had, name), _short(has, name))


def _holder_changes(old: Root | None, new: Root) -> Iterator[FieldChange]:
    """Yield what is said otherwise of keys that neither leave nor come."""
    had = {} if old is None else known_holders(old)
    has = known_holders(new)
    before, after = (
        set()
        if one is None
        else {key for role in one.roles.values() for key in role.keyids}
        for one in (old, new)
    )
    for keyid in sorted((had.keys() | has.keys()) - (before ^ after)):
        texts = [one.get(keyid, NOBODY).text or None for one in (had, has)]
        if texts[0] != texts[1]:
            yield FieldChange("holder", keyid[:12], *texts)


def _short(fields: Mapping[str, Any], name: str) -> str | None:
    return plain(str(fields[name])) if name in fields else None
