"""`repo prune`: old versions of trust metadata that nobody needs any more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.author import reads
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result

if TYPE_CHECKING:
    from margo_supplychain.cli.author import Author

_KEEP: Final = 10
_FEW: Final = 10  # names on a screen; JSON has all


@click.command(
    epilog=epilog(
        examples=[
            "repo prune",
            "repo prune --repo oci://registry.example/acme/trust --keep 30",
        ],
        exits=[0, 2, 3, 4],
        follow="repo check",
    )
)
@click.option(
    "--keep",
    type=click.IntRange(min=1, max=100_000),
    default=_KEEP,
    show_default=True,
    metavar="K",
    help="How many versions of each file stay.",
)
@reads
def prune(author: Author, *, keep: int) -> Result:
    """Remove old versions of snapshot and roles; roots, targets and content stay.

    What the current state and the one before it name stays as well.
    """
    from margo_supplychain.authoring.housekeeping import prune as remove
    from margo_supplychain.authoring.shelves import open_shelf

    trust = author.trust()
    with (
        author.explained(),
        open_shelf(author.open().url, network=author.network) as shelf,
    ):
        done = remove(shelf, trust=trust, keep=keep)
    what = describe.counted(len(done.removed), "old metadata file")
    lines = [f"pruned {author.place}: {what} removed, {done.kept} kept"]
    lines += [f"  {one}" for one in done.removed[:_FEW]]
    if len(done.removed) > _FEW:
        lines.append(f"  and {len(done.removed) - _FEW} more")
    lines.append("next: margo-supplychain repo check")
    return Result(
        data={
            "repository": author.place,
            "removed": list(done.removed),
            "kept": done.kept,
        },
        lines=lines,
    )
