"""What keys a proposed root may bring: one key, one form, one id.

A key's material is what signs, and its id what people compare. The same key written
otherwise (white space, another scheme, a field more) has another id: its holder could
not sign by it any more, other tools could not read it, and with free fields somebody
could look for an id that begins like hers. So a new key has the one form in which
`key generate` and `key import` write it, and a key that stays is not written anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from margo_supplychain import threshold
from margo_supplychain.authoring.holders import holders_of
from margo_supplychain.authoring.plan import TOP_ROLES
from margo_supplychain.errors import KeyFormatError, RefusedError
from margo_supplychain.formats import strict_json

if TYPE_CHECKING:
    from securesystemslib.signer import Key
    from tuf.api.metadata import Root

_KEY: Final = (
    "one key has one id, which its holder compares: name her file of `key generate` or "
    "`key import`; nothing was changed"
)
_HOLDER: Final = "make a new proposal with `root propose`; nothing was changed"


def check_keys(new: Root, trusted: Root | None) -> None:
    """Refuse a new key in another form than its own, or one that stands under an id.

    Args:
        new: the proposed root, whose roles' keys can be counted.
        trusted: the root before it; None for a first one. What stands there may be of
            another tool, and stays as it is.

    Raises:
        RefusedError: names the first such key.
    """
    known = {} if trusted is None else trusted.keys
    stands = ids_by_material(known)
    used = {keyid for role in TOP_ROLES for keyid in new.roles[role].keyids}
    for keyid, key in new.keys.items():
        if keyid in known and _form(known[keyid]) == _form(key):
            continue
        if keyid not in used:
            raise RefusedError(
                f"root v{new.version} defines key {keyid[:12]!r}, which no role has",
                hint=_KEY,
            )
        check_form(keyid, key)
        before = stands.get(threshold.material(key), keyid)
        if before != keyid:
            raise RefusedError(
                f"key {keyid[:12]} is key {before[:12]} of the root before, written "
                "otherwise",
                hint="a key keeps its id as long as it stays: leave it, or put another "
                "key in its place; nothing was changed",
            )


def check_holders(new: Root) -> None:
    """Refuse names for keys that are not there, and names that blanks hide.

    Raises:
        RefusedError: names the first such key.
        MetadataFormatError: the field is not what is signed there.
    """
    for keyid, holder in holders_of(new).items():
        if keyid not in new.keys:
            raise RefusedError(
                f"root v{new.version} names the holder of key {keyid[:12]!r}, which it "
                "does not define",
                hint=_HOLDER,
            )
        for field, text in holder.to_dict().items():
            if "  " in text:
                raise RefusedError(
                    f"the {field} of key {keyid[:12]}'s holder has several blanks side "
                    "by side",
                    hint=_HOLDER,
                )


def check_form(keyid: str, key: Key) -> None:
    """Refuse a key that is not written as its holder's tools write it, or under its id.

    Raises:
        RefusedError: it is not; says what its id would be.
    """
    from margo_supplychain.signing.keys import parse_public_key

    what = f"key {keyid[:12]}"
    form = _form(key)
    try:
        normal = parse_public_key(strict_json.canonical(form), what=what)
    except KeyFormatError as why:
        raise RefusedError(str(why), hint=why.hint or _KEY) from why
    if (normal.keyid, _form(normal)) != (keyid, form):
        raise RefusedError(
            f"{what} is not written as its holder's tools write it: there its id is "
            f"{normal.keyid[:12]}",
            hint=_KEY,
        )


def _form(key: Key) -> dict[str, Any]:
    """Return what an id is computed from; fields of other tools have rows instead."""
    return {"keytype": key.keytype, "scheme": key.scheme, "keyval": key.keyval}


def ids_by_material(keys: dict[str, Key]) -> dict[str, str]:
    """Return the id under which a root has each key, by the key's material."""
    found = {}
    for keyid, key in keys.items():
        try:
            found[threshold.material(key)] = keyid
        except KeyFormatError:
            continue  # in no role, so nobody counts it
    return found
