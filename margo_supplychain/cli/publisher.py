"""`margo-supplychain publisher`: who may publish in a repository of several."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import signing_keys
from margo_supplychain.cli.arguments import DELEGATED, PUBLISHER
from margo_supplychain.cli.author import Author, edit_data, signed_line, signs
from margo_supplychain.cli.confirming import confirm, yes_option
from margo_supplychain.cli.describe import counted, table
from margo_supplychain.cli.handing import submits
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.publisher_show import show
from margo_supplychain.cli.role_keys import each_once, owner_option, role_keys
from margo_supplychain.cli.signing_keys import threshold_of

if TYPE_CHECKING:
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.cli.role_keys import RoleKeysGiven

_EXITS: Final = (0, 2, 3, 4, 5, 6)
_TWO_OF_THREE: Final = (
    "publisher add bolt --publisher-key a.pub --publisher-key b.pub "
    "--publisher-key c.pub --publisher-threshold 2 --owner 'a.pub=holder A'"
)


@click.group()
def publisher() -> None:
    """Say who may publish in a repository of several publishers."""


publisher.add_command(show)


@publisher.command(
    epilog=epilog(
        examples=[
            "publisher add bolt --publisher-key bolt.pub",
            _TWO_OF_THREE,
        ],
        exits=_EXITS,
        follow="publisher show bolt",
    )
)
@click.argument("name", type=PUBLISHER)
@click.option(
    "--publisher-key",
    "uris",
    multiple=True,
    required=True,
    callback=each_once,
    metavar="KEY",
    help="The publisher's: a public key (.pub) is enough, and its role is then signed "
    "with its first submission; may be repeated.",
)
@click.option(
    "--publisher-threshold",
    "threshold",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of them must sign.",
)
@owner_option
@signs
@submits
def add(
    author: Author,
    *,
    name: str,
    uris: tuple[str, ...],
    threshold: int | None,
    owners: tuple[str, ...],
) -> Result:
    """Delegate NAME/… to a publisher, with the key of targets."""
    needed = threshold_of("--publisher-threshold", threshold, len(uris))
    with author.keyring() as keyring:
        given = role_keys(keyring, uris, owners)
        with author.edit_with(
            keyring,
            *signing_keys.TARGETS,
            *signing_keys.ONLINE,
            also=given.signers,
        ) as edit:
            changed = edit.add_publisher(
                name, given.keys, threshold=needed, holders=given.holders
            )
    verb = "added" if changed else "unchanged"
    is_signed = not changed or name in _roles(edit)
    follow = f"app add {name}/NAME --release-key ci.pub"
    first = [] if is_signed else [("role", "signed with its first submission")]
    return Result(
        data={"publisher": name, "changed": changed, **_data(edit, given, needed)},
        lines=[
            f"{verb} publisher {name}: {needed} of {len(given.keys)} keys must sign",
            *table(
                [("keys", given.line()), *first, ("signed", signed_line(edit))],
            ),
            f"next: margo-supplychain {follow}"
            if is_signed
            else f"next: {name} signs: margo-supplychain {follow} --submit INBOX",
        ],
    )


@publisher.command(
    epilog=epilog(
        examples=[
            "publisher rotate bolt --publisher-key bolt-2.key",
            "publisher rotate bolt --publisher-key bolt-2.pub --cut-off",
            "publisher rotate bolt/torque --release-key ci-2.pub --cut-off",
        ],
        exits=_EXITS,
        follow="publisher show bolt",
    )
)
@click.argument("role", type=DELEGATED, metavar="NAME|PUBLISHER/NAME")
@click.option(
    "--publisher-key",
    "publisher_keys",
    multiple=True,
    callback=each_once,
    metavar="KEY",
    help="Every key that the publisher shall have from now on; may be repeated.",
)
@click.option(
    "--release-key",
    "release_keys",
    multiple=True,
    callback=each_once,
    metavar="KEY",
    help="Every key that the application shall have from now on; may be repeated.",
)
@click.option(
    "--threshold",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of them must sign.",
)
@click.option(
    "--cut-off",
    is_flag=True,
    help="Of a stolen key: take it away now. Devices refuse the role until the new "
    "keys sign; their holder goes on from the last file by the old ones.",
)
@owner_option
@signs
@submits
def rotate(
    author: Author,
    *,
    role: str,
    publisher_keys: tuple[str, ...],
    release_keys: tuple[str, ...],
    threshold: int | None,
    cut_off: bool,
    owners: tuple[str, ...],
) -> Result:
    """Give a publisher or an application new keys, with its delegator's key."""
    is_publisher = "." not in role
    uris = publisher_keys if is_publisher else release_keys
    if not uris or (release_keys if is_publisher else publisher_keys):
        kind = "publisher" if is_publisher else "release"
        raise click.UsageError(
            f"{_typed(role)} takes --{kind}-key: every key that it shall have"
        )
    needed = threshold_of("--threshold", threshold, len(uris))
    with author.look() as known:  # before anybody types a passphrase
        known.require_publishers()
        before = known.keyids(role)
    with author.keyring() as keyring:
        given = role_keys(keyring, uris, owners)
        with author.edit_with(
            keyring, *_delegator_keys(role), *signing_keys.ONLINE, also=given.signers
        ) as edit:
            give = edit.cut_off_keys if cut_off else edit.rotate_keys
            changed = give(role, given.keys, threshold=needed, holders=given.holders)
            is_refused = edit.is_refused(role)
    staying = {key.keyid for key in given.keys}
    left = [keyid for keyid in before if keyid not in staying]
    verb = "cut off" if is_refused else "rotated" if changed else "unchanged"
    rows = [("keys", given.line())]
    if left:
        rows.append(("left", f"{_short(left)}: never to return"))
    rows.append(("signed", signed_line(edit)))
    follow = f"margo-supplychain publisher show {role.partition('.')[0]}"
    if is_refused:
        follow = (
            f"whoever holds the new keys signs: margo-supplychain repo refresh "
            f"--role {role}, after a look at what it lists"
        )
    return Result(
        data={
            "role": role,
            "changed": changed,
            "refused": is_refused,
            "left": left,
            **_data(edit, given, needed),
        },
        lines=[
            f"{verb} {role}: {needed} of {len(given.keys)} keys must sign",
            *table(rows),
            f"next: {follow}",
        ],
    )


@publisher.command(
    epilog=epilog(
        examples=["publisher remove bolt", "publisher remove bolt/torque --yes"],
        exits=_EXITS,
        follow="publisher show",
    )
)
@click.argument("role", type=DELEGATED, metavar="NAME|PUBLISHER/NAME")
@yes_option("Remove it without asking.")
@signs
@submits
def remove(author: Author, *, role: str, yes: bool) -> Result:
    """End the delegation to a publisher or an application."""
    with author.look() as known:
        known.require_publishers()
        left = known.keyids(role)
        below = known.below(role) if "." not in role else ()
    if left:  # else there is nothing to ask: the edit says what is wrong
        for line in _meaning(role, below):
            author.invocation.note(line)
        confirm(f"remove {_typed(role)}?", yes=yes)
    with author.edit(*_delegator_keys(role), *signing_keys.ONLINE) as edit:
        changed = _remove(edit, role)
    verb = "removed" if changed else "unchanged: no longer delegated:"
    rows = [("signed", signed_line(edit))]
    if changed:
        rows.insert(0, ("keys", f"{_short(left)}: never to return"))
    return Result(
        data={
            "role": role,
            "changed": changed,
            "applications": [_typed(one) for one in below],
            "left": list(left),
            **edit_data(edit),
        },
        lines=[
            f"{verb} {_typed(role)}",
            *table(rows),
            "next: margo-supplychain publisher show",
        ],
    )


def _remove(edit: Edit, role: str) -> bool:
    from margo_supplychain.authoring.roles import application_of

    if "." in role:
        return edit.remove_application(application_of(role))
    return edit.remove_publisher(role)


def _meaning(role: str, below: tuple[str, ...]) -> list[str]:
    what = _typed(role)
    effect = (
        f"devices will refuse {what}; what they run of it keeps running, and can't be "
        "withdrawn any more"
    )
    lines = [effect]
    if below:
        shown = ", ".join(_typed(one) for one in below[:5])
        more = f" and {len(below) - 5} more" if len(below) > 5 else ""
        lines.append(f"that is {counted(len(below), 'application')}: {shown}{more}")
    lines.append("its keys never return to it, also if it is added again")
    return lines


def _delegator_keys(role: str) -> tuple[str, ...]:
    return signing_keys.PUBLISHER if "." in role else signing_keys.TARGETS


def _typed(role: str) -> str:
    """Return a role as it is typed: `bolt`, `bolt/torque`."""
    return role.replace(".", "/", 1)


def _short(keyids: tuple[str, ...] | list[str]) -> str:
    return ", ".join(keyid[:12] for keyid in keyids)


def _roles(edit: Edit) -> frozenset[str]:
    return frozenset(() if edit.written is None else edit.written.roles)


def _data(edit: Edit, given: RoleKeysGiven, threshold: int) -> dict[str, Any]:
    return {
        "keyIds": [key.keyid for key in given.keys],
        "threshold": threshold,
        **edit_data(edit),
    }
