"""`publisher show`: who publishes here, with which keys, and who must act by when.

Readable without any key. What a publisher's role says is shown as far as devices accept
it; what they refuse is said to be so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from margo_supplychain.cli import describe
from margo_supplychain.cli.arguments import PUBLISHER, SPAN
from margo_supplychain.cli.author import Author, reads
from margo_supplychain.cli.failures import PROGRAM
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_status import awaited, duty_data, who
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime, timedelta

    from margo_supplychain.authoring.duties import Duty

_MANY: Final = 20  # applications on one screen; JSON has all


class Shown(NamedTuple):
    """One publisher: its own role, and those of its applications."""

    role: Duty
    applications: tuple[Duty, ...]


@click.command(
    epilog=epilog(
        examples=["publisher show bolt", "--format json publisher show"],
        exits=[0, 2, 3, 4],
        follow="repo status --within 14d",
    )
)
@click.argument("name", type=PUBLISHER, required=False)
@click.option(
    "--within",
    type=SPAN,
    default="14d",
    show_default=True,
    metavar="14d|36h",
    help="What expires in this time is due.",
)
@reads
def show(author: Author, *, name: str | None, within: timedelta) -> Result:
    """Show publishers: keys, who holds them, applications, and who must act."""
    with author.look() as known:
        known.require_publishers()
        removed = known.removed_publishers
    repository = author.open()
    found = _publishers(repository.status(within=within, state=author.memory()))
    if name is not None:
        if name not in found:
            raise RefusedError(
                f"{name} is no longer a publisher here: it was removed"
                if name in removed
                else f"there is no publisher {name} here",
                hint="`margo-supplychain publisher show` lists those that there are",
            )
        found, removed = {name: found[name]}, ()
    now = describe.now()
    lines: list[str] = []
    for publisher, one in found.items():
        lines += [publisher, *describe.table(_rows(one, now))]
    if removed:
        lines.append(f"removed: {', '.join(removed)}")
    if not found:
        lines.append("no publisher here yet")
    follow = f"publisher show {min(found)}" if name is None and found else "repo status"
    return Result(
        data={
            "repository": repository.url,
            "publishers": [_data(publisher, one) for publisher, one in found.items()],
            "removed": list(removed),
        },
        lines=[*lines, f"next: {PROGRAM} {follow}"],
    )


def _publishers(duties: Sequence[Duty]) -> dict[str, Shown]:
    top = {"root", "targets", "snapshot", "timestamp"}
    names = [one for one in duties if one.role not in top and "." not in one.role]
    return {
        one.role: Shown(
            one,
            tuple(
                other
                for other in duties
                if other.role.partition(".")[0] == one.role and other is not one
            ),
        )
        for one in names
    }


def _rows(one: Shown, now: datetime) -> Iterator[tuple[str, ...]]:
    yield "role", _standing(one.role, now)
    yield from _keys(one.role)
    for each in one.applications[:_MANY]:
        yield each.role.partition(".")[2], _standing(each, now)
    if len(one.applications) > _MANY:
        left = len(one.applications) - _MANY
        yield "", f"and {describe.counted(left, 'application')} more"
    if not one.applications:
        yield "applications", "none"


def _keys(duty: Duty) -> Iterator[tuple[str, ...]]:
    yield "threshold", f"{duty.needed} of {len(duty.keys)} keys must sign"
    for key in duty.keys:
        yield "key", f"{key.keyid[:12]}  {key.holder.text or 'holder not named'}"


def _standing(duty: Duty, now: datetime) -> str:
    """Return how a role stands, and who must act by when."""
    if duty.version is None:
        return f"not signed yet: {awaited(duty)}, by {who(duty)}"
    text = f"v{duty.version}"
    if duty.expires is not None:
        far = describe.distance(duty.expires, at=now)
        word = "expired" if duty.expires <= now else "until"
        text += f" {word} {describe.date(duty.expires)}, {far}"
    if duty.problem is not None:
        text += f": {duty.problem}"
    if duty.due:
        return f"{text}; {who(duty)} must sign: {PROGRAM} {duty.action}"
    return f"{text}, by {who(duty)}" if "." in duty.role else text


def _data(name: str, one: Shown) -> dict[str, Any]:
    return {
        "publisher": name,
        **_with_keys(one.role),
        "applications": [
            {"name": f"{name}/{each.role.partition('.')[2]}", **_with_keys(each)}
            for each in one.applications
        ],
    }


def _with_keys(duty: Duty) -> dict[str, Any]:
    return {
        **duty_data(duty),
        "keys": [
            {
                "keyId": key.keyid,
                "holder": key.holder.name,
                "custody": key.holder.custody,
                "place": key.holder.place,
            }
            for key in duty.keys
        ],
    }
