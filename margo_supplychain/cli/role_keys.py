"""The keys that a command gives to a role, and who holds them.

`--owner` names people; custody and place come from what is recorded of a key. All of it
is signed beside the keys (`x-holders`), never inside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import click

from margo_supplychain.cli.signing_keys import open_key, read_public

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.signing.keyring import Keyring


class RoleKeysGiven(NamedTuple):
    """Keys as they were given.

    Args:
        keys: the public keys.
        holders: key id → what is known of its holder.
        signers: the private halves that are at hand.
    """

    keys: tuple[Key, ...]
    holders: Mapping[str, Holder]
    signers: tuple[Signer, ...]

    def line(self) -> str:
        """Return the keys for people: short ids, each with its holder."""
        return "; ".join(shown(key.keyid, self.holders) for key in self.keys)


def each_once(
    context: click.Context, option: click.Parameter, uris: tuple[str, ...]
) -> tuple[str, ...]:
    """Refuse a key that is typed twice: one of the two was meant to be another.

    The callback of options that take the keys of one role.
    """
    for index, uri in enumerate(uris):
        if uri in uris[:index]:
            raise click.UsageError(
                f"{option.opts[0]} {uri} is given twice: it counts once", ctx=context
            )
    return uris


def refuse_same(keys: Mapping[str, Key]) -> None:
    """Refuse a key that one role is given under two names.

    Args:
        keys: as typed → the public key.

    Raises:
        click.UsageError: naming both.
    """
    names: dict[str, str] = {}
    for uri, key in keys.items():
        other = names.setdefault(key.keyid, uri)
        if other != uri:
            raise click.UsageError(
                f"{other} and {uri} are the same key, {key.keyid[:12]}: it counts once"
            )


def owner_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command `--owner`, as the argument `owners`."""
    return click.option(
        "--owner",
        "owners",
        multiple=True,
        metavar="KEY=NAME",
        help="Who holds one of the keys given here; may be repeated.",
    )(command)


def role_keys(
    keyring: Keyring,
    uris: Sequence[str],
    owners: Sequence[str],
    *,
    public: bool = False,
) -> RoleKeysGiven:
    """Return the keys that a role shall have.

    Args:
        keyring: opens them.
        uris: as typed.
        owners: `KEY=NAME`, KEY being one of them.
        public: open no private half.

    Raises:
        click.UsageError: one key under two names, or an owner of no key that is given.
        FormatError, SignerError: a key can't be read, or does not open.
    """
    from margo_supplychain.authoring.holders import NOBODY
    from margo_supplychain.authoring.plan_changes import PlannedKey

    named = _named(owners, uris)
    keys: dict[str, Key] = {}
    holders, signers = {}, []
    for uri in uris:
        if public:
            record, signer = read_public(keyring, uri), None
        else:
            record, signer = open_key(keyring, uri)
        planned = PlannedKey.of(record, name=named.get(uri))
        keys[uri] = planned.key
        if planned.holder != NOBODY:
            holders[planned.key.keyid] = planned.holder
        if signer is not None:
            signers.append(signer)
    refuse_same(keys)
    return RoleKeysGiven(tuple(keys.values()), holders, tuple(signers))


def shown(keyid: str, holders: Mapping[str, Holder]) -> str:
    """Return a key for people: `77d1e0aa93b4 holder B, token root-b`."""
    holder = holders.get(keyid)
    return keyid[:12] if holder is None else f"{keyid[:12]} {holder.text}".rstrip()


def _named(owners: Sequence[str], uris: Sequence[str]) -> dict[str, str]:
    found = {}
    for each in owners:
        # A URI holds `=`, a name rarely does.
        uri, _, name = each.rpartition("=")
        if uri not in uris or not name:
            raise click.UsageError(
                f"--owner {each!r:.80} is not KEY=NAME with one of the keys given here"
            )
        found[uri] = name
    return found
