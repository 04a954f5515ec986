"""`margo-supplychain publisher`: who may publish in a repository of several."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from margo_supplychain.cli import signing_keys
from margo_supplychain.cli.arguments import PUBLISHER
from margo_supplychain.cli.author import Author, edit_data, signed_line, signs
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.signing_keys import open_key, threshold_of

if TYPE_CHECKING:
    from securesystemslib.signer import Key, Signer


@click.group()
def publisher() -> None:
    """Say who may publish in a repository of several publishers."""


@publisher.command(
    epilog=epilog(
        examples=[
            "publisher add bolt --publisher-key bolt.key",
            "publisher add bolt --publisher-key b.key --key targets.key --key ci.key",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="app add bolt/NAME --release-key ci.pub",
    )
)
@click.argument("name", type=PUBLISHER)
@click.option(
    "--publisher-key",
    "uris",
    multiple=True,
    required=True,
    metavar="KEY",
    help="The publisher's; private keys at hand must meet the threshold, a public one "
    "(.pub) is a spare; may be repeated.",
)
@click.option(
    "--publisher-threshold",
    "threshold",
    type=click.IntRange(min=1),
    metavar="N",
    help="How many of them must sign.",
)
@signs
def add(
    author: Author, *, name: str, uris: tuple[str, ...], threshold: int | None
) -> Result:
    """Delegate NAME/… to a publisher, with the targets key and the publisher's own."""
    uris = tuple(dict.fromkeys(uris))
    needed = threshold_of("--publisher-threshold", threshold, len(uris))
    keys: list[Key] = []
    own: list[Signer] = []
    with author.keyring() as keyring:
        for uri in uris:
            record, signer = open_key(keyring, uri)
            keys.append(record.key)
            if signer is not None:
                own.append(signer)
        with author.edit_with(
            keyring, *signing_keys.TARGETS, *signing_keys.ONLINE, also=own
        ) as edit:
            changed = edit.add_publisher(name, keys, threshold=needed)
    verb = "added publisher" if changed else "unchanged publisher"
    return Result(
        data={
            "publisher": name,
            "changed": changed,
            "keyIds": [key.keyid for key in keys],
            "threshold": needed,
            **edit_data(edit),
        },
        lines=[
            f"{verb} {name}: {needed} of {len(keys)} keys must sign",
            f"  keys    {', '.join(key.keyid[:12] for key in keys)}",
            f"  signed  {signed_line(edit)}",
            f"next: margo-supplychain app add {name}/NAME --release-key ci.pub",
        ],
    )
