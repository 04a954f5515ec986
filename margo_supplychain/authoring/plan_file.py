"""A root plan as a file that people review: TOML.

    profile = "standard"

    [root]
    keys = ["a.pub", "b.pub", "4f1a09c2e77b"]   # key files, key URIs, or key ids
    threshold = 2

    [targets]
    keys = ["t.pub"]

    [snapshot]
    keys = ["pkcs11:token=online;object=ci"]

    [timestamp]
    keys = ["pkcs11:token=online;object=ci"]

    [periods]
    root = "730d"           # how long signatures last

    [signing]
    root = "60d"            # signing is due that long before

    [custody]
    root = "never-extractable"

    [owners]
    "a.pub" = "holder A"

A plan is the whole of what the next root shall say: what it leaves out is the default.
Only what is known of keys that stay (who holds them, and how) needn't be said again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from margo_supplychain.authoring.holders import NOBODY, Holder
from margo_supplychain.authoring.plan import (
    MAX_KEYS,
    TOP_ROLES,
    RoleKeys,
    RootPlan,
)
from margo_supplychain.authoring.plan_changes import PlannedKey
from margo_supplychain.authoring.settings import format_period, profile_of
from margo_supplychain.errors import FormatError, MetadataFormatError
from margo_supplychain.formats import toml
from margo_supplychain.formats.fields import Fields
from margo_supplychain.formats.names import publisher_name
from margo_supplychain.formats.times import parse_span
from margo_supplychain.formats.toml import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta

    from margo_supplychain.authoring.plan import Kind

LIMIT: Final = 256 * 1024  # bytes
_PUBLISHER: Final = "publisher-keys"
_ROLE_FIELDS: Final = ("keys", "threshold")
_FIELDS: Final = (
    *("profile", "publisher", _PUBLISHER, *TOP_ROLES),
    *("periods", "signing", "custody", "owners"),
)


def parse_plan(
    data: bytes,
    keys: Callable[[str], PlannedKey],
    *,
    base: RootPlan | None = None,
    what: str = "plan",
) -> RootPlan:
    """Parse a plan.

    Args:
        data: the file.
        keys: returns the key that a text of the file names.
        base: the plan that stands; its keys may be named by their ids, and what is
            known of them stays.
        what: names the file in errors.

    Raises:
        MetadataFormatError: too large, no TOML, an unknown field, a wrong type.
        FormatError: a plan that could not be signed.
    """
    parsed = toml.parse(data, what=what, limit=LIMIT, error=MetadataFormatError)
    return _Reader(keys, base).read(Fields(parsed, what=what))


class _Reader:
    def __init__(
        self, keys: Callable[[str], PlannedKey], base: RootPlan | None
    ) -> None:
        self._keys = keys
        self._base = base
        self._named: dict[str, PlannedKey] = {}
        self._known = _known(base)

    def read(self, fields: Fields) -> RootPlan:
        base = self._base
        _require_known(fields, _FIELDS)
        profile = fields.optional("profile", profile_of)
        publisher = fields.optional("publisher", publisher_name)
        if base is not None:
            # They show in the repository, and no root changes them.
            for name, given, stands in (
                ("profile", profile, base.profile),
                ("publisher", publisher, base.publisher),
            ):
                if given is not None and given != stands:
                    raise _other(fields.what, name, given, stands)
            profile, publisher = base.profile, base.publisher
        elif profile is None:
            fields.text("profile")
        roles = {role: self._role(fields.object(role)) for role in TOP_ROLES}
        offline = None if base is None else base.publisher_keys
        if base is None and fields.has(_PUBLISHER):
            offline = self._role(fields.object(_PUBLISHER))
        plan = RootPlan(
            profile=profile or "standard",
            root=roles["root"],
            targets=roles["targets"],
            snapshot=roles["snapshot"],
            timestamp=roles["timestamp"],
            publisher=publisher,
            publisher_keys=offline,
            periods=_spans(fields, "periods"),
            signing=_spans(fields, "signing"),
            custody=_texts(fields, "custody"),
            holders=self._holders(fields),
        )
        fields.done()
        return plan

    def _role(self, fields: Fields) -> RoleKeys:
        _require_known(fields, _ROLE_FIELDS)
        found = fields.list_of("keys", self._key, limit=MAX_KEYS)
        if fields.has("threshold"):
            needed = fields.integer("threshold")
        elif len(found) < 2:
            needed = 1
        else:
            raise MetadataFormatError(
                f"{fields.what} has no field 'threshold': {len(found)} keys are named, "
                f"and 1 to {len(found)} of them may be enough"
            )
        fields.done()
        try:
            return RoleKeys(keys=tuple(one.key for one in found), threshold=needed)
        except FormatError as why:
            raise MetadataFormatError(f"{fields.what}: {why}", hint=why.hint) from why

    def _key(self, text: str) -> PlannedKey:
        if text not in self._named:
            self._named[text] = self._known_by_id(text) or self._keys(text)
        return self._named[text]

    def _known_by_id(self, text: str) -> PlannedKey | None:
        found = [one for one in self._known if one.startswith(text)]
        return self._known[found[0]] if len(found) == 1 and len(text) >= 8 else None

    def _holders(self, fields: Fields) -> dict[str, Holder]:
        names: dict[str, str] = {}
        for text, name in _texts(fields, "owners").items():
            if text not in self._named and self._known_by_id(text) is None:
                raise MetadataFormatError(
                    f"{fields.what}.owners names {text!r:.80}, which is no key of this "
                    "plan"
                )
            names[self._key(text).key.keyid] = name
        found: dict[str, Holder] = {}
        for one in self._named.values():
            keyid = one.key.keyid
            known = self._known.get(keyid)
            before = NOBODY if known is None else known.holder
            named = Holder(name=names.get(keyid))
            found[keyid] = before.updated(one.holder).updated(named)
        return {keyid: one for keyid, one in found.items() if one != NOBODY}


def _require_known(fields: Fields, names: tuple[str, ...]) -> None:
    """Refuse a misspelt field before the right one is missed."""
    for name in fields.value:
        if name not in names:
            raise MetadataFormatError(
                f"{fields.what} has unknown field {name[:80]!r}, expected one of "
                f"{', '.join(names)}"
            )


def _other(what: str, name: str, given: str, stands: str | None) -> FormatError:
    if stands is None:
        return MetadataFormatError(
            f"{what}.{name} is {given}, and the profile of this repository has none",
            hint="leave it out: publishers are added by `publisher add`",
        )
    return MetadataFormatError(
        f"{what}.{name} is {given}, and the repository's is {stands}",
        hint="leave it out: no root changes it",
    )


def _known(base: RootPlan | None) -> dict[str, PlannedKey]:
    if base is None:
        return {}
    roles = [*base.top.values()]
    if base.publisher_keys is not None:
        roles.append(base.publisher_keys)
    return {
        key.keyid: PlannedKey(key, base.holders.get(key.keyid, NOBODY))
        for role in roles
        for key in role.keys
    }


def _spans(fields: Fields, name: str) -> dict[Kind, timedelta]:
    if not fields.has(name):
        return {}
    table = fields.object(name)
    return {
        cast("Kind", kind): table.parsed(
            kind, lambda text: parse_span(text, what="it", error=MetadataFormatError)
        )
        for kind in table.value
    }


def _texts(fields: Fields, name: str) -> dict[str, str]:
    if not fields.has(name):
        return {}
    table = fields.object(name)
    return {one: table.text(one) for one in table.value}


def render_plan(plan: RootPlan) -> bytes:
    """Return a plan as a file to start from; it names keys by their whole ids.

    `parse_plan(…, base=plan)` reads it back as the same plan.
    """
    return ("\n".join(_lines(plan)) + "\n").encode("utf-8")


def _lines(plan: RootPlan) -> Iterator[str]:
    yield f"profile = {quoted(plan.profile)}"
    if plan.publisher is not None:
        yield f"publisher = {quoted(plan.publisher)}"
    for role in TOP_ROLES:
        yield from ("", f"[{role}]", "keys = [")
        for keyid in plan.top[role].keyids:
            holder = plan.holders.get(keyid, NOBODY).text
            yield f"  {quoted(keyid)}," + (f"  # {holder}" if holder else "")
        yield from ("]", f"threshold = {plan.top[role].threshold}")
    yield from _table("periods", _written(plan.periods))
    yield from _table("signing", _written(plan.signing))
    yield from _table("custody", plan.custody)
    names = {
        keyid: holder.name
        for keyid, holder in sorted(plan.holders.items())
        if holder.name is not None
    }
    yield from _table("owners", names)


def _written(periods: Mapping[Kind, timedelta]) -> dict[str, str]:
    return {kind: format_period(one) for kind, one in periods.items()}


def _table(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield from ("", f"[{name}]")
        for key, value in values.items():
            yield f"{quoted(key)} = {quoted(value)}"
