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
        uris: as typed; the same one twice is one.
        owners: `KEY=NAME`, KEY being one of them.
        public: open no private half.

    Raises:
        click.UsageError: an owner of no key that is given.
        FormatError, SignerError: a key can't be read, or does not open.
    """
    from margo_supplychain.authoring.holders import NOBODY
    from margo_supplychain.authoring.plan_changes import PlannedKey

    named = _named(owners, uris)
    keys, holders, signers = [], {}, []
    for uri in dict.fromkeys(uris):
        if public:
            record, signer = read_public(keyring, uri), None
        else:
            record, signer = open_key(keyring, uri)
        planned = PlannedKey.of(record, name=named.get(uri))
        keys.append(planned.key)
        if planned.holder != NOBODY:
            holders[planned.key.keyid] = planned.holder
        if signer is not None:
            signers.append(signer)
    return RoleKeysGiven(tuple(keys), holders, tuple(signers))


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
