"""What somebody is told whose keys do not suffice: what applies to him.

A vendor hands in; a setting may name a key that its role has no more; `--key` replaces
all settings; and only then it is keys that lie elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.authoring.roles import kind_of
from margo_supplychain.cli import signing_keys
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.settings import FILE_NAME
from margo_supplychain.errors import FormatError, SignerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from margo_supplychain.cli.author import Author
    from margo_supplychain.errors import IncompleteError

_SETTINGS: Final[Mapping[str, Sequence[str]]] = {
    "root": signing_keys.ROOT,
    "targets": signing_keys.TARGETS,
    "publisher": signing_keys.PUBLISHER,
    "application": signing_keys.RELEASE,
    "snapshot": signing_keys.ONLINE,
    "timestamp": signing_keys.ONLINE,
}
_OPERATORS: Final = frozenset({"targets", "snapshot", "timestamp"})


def missing_hint(author: Author, why: IncompleteError) -> str | None:
    """Return what to do about missing signatures; None if nothing is known.

    Args:
        author: who ran the command, with what.
        why: names the roles that lack some, and their keys.
    """
    if not why.roles:
        return None
    if author.submission is None and why.roles.keys() <= _OPERATORS:
        found = _hand_in(author)
        if found is not None:
            return f"{found}; nothing was changed"
    stale = list(_stale(author, why.roles))
    if stale:
        return f"{'; '.join(stale)}; nothing was changed"
    if author.submission is not None:
        return None
    return f"{_more(author, why.roles)}; nothing was changed"


def stale_settings(author: Author, roles: Mapping[str, Sequence[str]]) -> list[str]:
    """Return which settings name keys that roles do not have, and what to do.

    Args:
        author: whose settings they are.
        roles: role → the ids of its keys.
    """
    return list(_stale_settings(author, roles))


def _inbox(author: Author) -> str | None:
    """Return a vendor's inbox; an operator may have one, and the online key."""
    find = author.invocation.settings.find
    inbox = find("inbox")
    if inbox is None or find("online-key") is not None:
        return None
    return inbox.values[0]


def _hand_in(author: Author) -> str | None:
    """Return how a vendor hands in what he was about to publish."""
    inbox = _inbox(author)
    if inbox is None:
        return None
    context = click.get_current_context()
    command = context.command_path.removeprefix(PROGRAM).strip()
    if command == "release publish":
        return f"the operator publishes: {PROGRAM} release submit DIST"
    known = {option for one in context.command.params for option in one.opts}
    if "--submit" not in known:
        return None  # a command of operators, whatever the settings have
    role = ""
    if "--role" in known and not context.params.get("role"):
        publisher = author.invocation.settings.find("publisher")
        role = f" --role {publisher.values[0] if publisher else 'PUBLISHER'}"
    return f"hand it in, the operator signs the rest: add{role} --submit {inbox}"


def _stale(author: Author, roles: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield which of the keys that were tried are no keys of these roles."""
    if not author.keys:
        yield from _stale_settings(author, roles)
        return
    if roles.keys() <= {"snapshot", "timestamp"}:
        return  # what was given signs something else; the online key is what lacks
    for uri in author.keys:
        keyid = _keyid(author, uri)
        if keyid is None or any(keyid in keys for keys in roles.values()):
            return
        yield f"{uri} ({keyid[:12]}) is no key of {' or '.join(roles)}"


def _stale_settings(
    author: Author, roles: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    said: dict[tuple[str, str, str], list[str]] = {}
    for role, keys in roles.items():
        for name in _SETTINGS[kind_of(role)]:
            setting = author.invocation.settings.find(name)
            for uri in () if setting is None else setting.values:
                keyid = _keyid(author, uri)
                if keyid is not None and keyid not in keys:
                    said.setdefault((name, uri, keyid), []).append(role)
    for (name, uri, keyid), found in said.items():
        keys = roles[found[0]]
        shown = ", ".join(one[:12] for one in keys[:5])
        yield (
            f"{name} in {FILE_NAME} is {uri} ({keyid[:12]}), no key of "
            f"{' and '.join(found)} any more: set {name} to {shown}"
        )


def _more(author: Author, roles: Mapping[str, Sequence[str]]) -> str:
    settings = author.invocation.settings
    online = settings.find("online-key")
    left = () if online is None else online.values
    if author.keys and not set(left) <= set(author.keys):
        more = " ".join(f"--key {one}" for one in left)
        return (
            f"--key replaces all keys of {FILE_NAME}, online-key too: add {more}, or "
            "name the others there and leave --key out"
        )
    text = f"give the keys of {_of(roles)}: `--key FILE` for every key that signs"
    if author.keys:
        return text
    names = dict.fromkeys(_setting_of(author, role) for role in roles)
    shown = " and ".join(f'{name} = ["a.key", "b.key"]' for name in names)
    return f"{text}, or {shown} in {FILE_NAME}"


def _setting_of(author: Author, role: str) -> str:
    """Return the setting that is used here for a role's keys."""
    names = _SETTINGS[kind_of(role)]
    used = [one for one in names if author.invocation.settings.find(one) is not None]
    return used[0] if used else names[0]


def _of(roles: Mapping[str, Sequence[str]]) -> str:
    names = list(roles)
    return ", ".join(names[:3]) + (" and more" if len(names) > 3 else "")


def _keyid(author: Author, uri: str) -> str | None:
    """Return the id of a key that was tried; None where it can't be looked at."""
    if author.pin is None:
        return None
    try:
        with author.keyring() as keyring:
            return str(keyring.look(uri).key.keyid)
    except (SignerError, FormatError):
        return None
