"""`margo-supplychain repo`: make, renew and look after a trust repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.arguments import SPAN
from margo_supplychain.cli.author import (
    Author,
    edit_data,
    reads,
    signed_line,
    signs,
)
from margo_supplychain.cli.handing import submits
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_accept import accept
from margo_supplychain.cli.repo_check import check
from margo_supplychain.cli.repo_copy import mirror, push
from margo_supplychain.cli.repo_init import init
from margo_supplychain.cli.repo_prune import prune
from margo_supplychain.cli.repo_status import Place, describe_status

if TYPE_CHECKING:
    from datetime import timedelta


@click.group()
def repo() -> None:
    """Make, renew and look after a trust repository."""


repo.add_command(init)
repo.add_command(accept)
repo.add_command(check)
repo.add_command(push)
repo.add_command(mirror)
repo.add_command(prune)


@repo.command(
    epilog=epilog(
        examples=["repo refresh", "repo refresh --role acme --key offline.key"],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo status --within 14d",
    )
)
@click.option("--role", metavar="ROLE", help="Sign ROLE again, too, with a new expiry.")
@signs
@submits
def refresh(author: Author, *, role: str | None) -> Result:
    """Sign snapshot and timestamp again, before they expire: a scheduled job."""
    with author.edit(*_keys_of(role), *signing_keys.ONLINE) as edit:
        edit.refresh(role)
    written, now = edit.written, describe.now()
    roles = {} if written is None else written.roles
    first = min((expires for _, expires in roles.values()), default=None)
    lines = [f"refreshed {author.place}: {signed_line(edit)}"]
    lines += describe.table(
        (name, f"until {describe.date(expires)}, {describe.distance(expires, at=now)}")
        for name, (_, expires) in roles.items()
    )
    if first is not None:
        lines.append(
            f"  again before {describe.moment(first)}, by a scheduled job: "
            "docs/how-to/ci.md"
        )
    lines.append("next: margo-supplychain repo status --within 14d")
    return Result(
        data={"repository": author.place, **edit_data(edit)},
        lines=lines,
    )


@repo.command(
    epilog=epilog(
        examples=["repo status --within 14d", "--format json repo status"],
        exits=[0, 2, 3, 4, 5],
        follow="repo refresh",
    )
)
@click.option(
    "--within",
    type=SPAN,
    default="14d",
    show_default=True,
    metavar="14d|36h",
    help="What expires in this time is due.",
)
@reads
def status(author: Author, *, within: timedelta) -> Result:
    """Show who must sign what by when; exit status 5 when a duty is due."""
    repository, memory = author.open(), author.memory()
    duties = repository.status(within=within, state=memory)
    return describe_status(
        repository,
        duties,
        within=within,
        now=describe.now(),
        place=Place.of(author, repository.standing(state=memory)),
    )


def _keys_of(role: str | None) -> tuple[str, ...]:
    if role is None or role in {"snapshot", "timestamp"}:
        return ()
    if role == "root":
        return signing_keys.ROOT
    if role == "targets":
        return signing_keys.TARGETS
    return signing_keys.RELEASE if "." in role else signing_keys.PUBLISHER
