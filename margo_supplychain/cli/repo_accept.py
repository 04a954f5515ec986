"""`repo accept`: the operator publishes what vendors have submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.author import UNPUBLISHED, signed_data, signs, warn
from margo_supplychain.cli.failures import hinted
from margo_supplychain.cli.options import epilog, missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.authoring.accepted import Accepted, Refusal, Taken
    from margo_supplychain.cli.author import Author

_FEW: Final = 10  # submissions on a screen; JSON has all
_DIGITS: Final = 12


@click.command(
    epilog=epilog(
        examples=[
            "repo accept inbox",
            "repo accept oci://registry.example/plant/inbox",
            "repo accept inbox --only 0efd1feea313",
        ],
        exits=[0, 2, 3, 4, 5, 6],
        follow="repo status --within 14d",
    )
)
@click.argument("inbox", metavar="[INBOX]", required=False)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help="Take this submission alone, by the first digits of its name; may be "
    "repeated.",
)
@click.option(
    "--discard-refused",
    "discard",
    is_flag=True,
    help="Remove from the inbox what is refused, too.",
)
@signs
def accept(
    author: Author, *, inbox: str | None, only: tuple[str, ...], discard: bool
) -> Result:
    """Judge what vendors have submitted, and publish what is good.

    INBOX is a directory or oci://…; the setting inbox by default. Each submission is
    taken whole, or refused with the reason; one that is refused stands in nobody's way.
    Exit status 5: something is refused.
    """
    from margo_supplychain.authoring.inbox import open_inbox
    from margo_supplychain.transport.mirrors import MirroredContent

    place = inbox or _setting(author)
    mirrors, network = author.invocation.settings.registries
    opened = open_inbox(place, network=network)
    repository, memory = author.open(), author.memory()
    with (
        hinted(UNPUBLISHED),
        author.explained(),
        author.keyring() as keyring,
        progress(author.invocation) as tell,
    ):
        done = repository.accept(
            opened,
            author.signers(keyring, *signing_keys.ONLINE),
            only=only,
            discard=discard,
            content=MirroredContent(mirrors, network=network, trust=repository.url),
            time_checked=author.time_checked,
            state=memory,
            progress=tell,
        )
    warn(author.invocation, done.warnings)
    return Result(
        data=_data(author, opened.url, done),
        lines=list(_lines(opened.url, done)),
        exit_status=5 if done.refused else 0,
    )


def _setting(author: Author) -> str:
    setting = author.invocation.settings.find("inbox")
    if setting is None or not setting.values:
        raise click.UsageError(missing_setting("inbox"))
    return setting.values[0]


def _lines(inbox: str, done: Accepted) -> Iterator[str]:
    number = len(done.taken) + len(done.refused)
    if not number:
        yield f"accepted nothing: {inbox} holds nothing new"
    else:
        yield (
            f"accepted {len(done.taken)} of {describe.counted(number, 'submission')} "
            f"from {inbox}"
        )
    yield from describe.table(_taken_row(one) for one in done.taken[:_FEW])
    yield from _more(len(done.taken))
    roles = done.written.roles
    if roles:
        online = [role for role in ("snapshot", "timestamp") if role in roles]
        signed = ", ".join(f"{role} v{roles[role][0]}" for role in online)
        new, there = done.written.blobs_new, done.written.blobs_there
        yield from describe.table(
            [
                ("signed ", signed),
                ("content", f"{new} copied, {there} already there"),
            ]
        )
    if done.known:
        counted = describe.counted(len(done.known), "submission")
        yield f"published before: {counted}"
    for one in done.refused[:_FEW]:
        yield f"refused {one.name[:_DIGITS]}: {one.reason}"
        if one.hint:
            yield f"  {one.hint}"
    yield from _more(len(done.refused))
    if done.refused:
        yield (
            "next: tell its vendor, or remove it: margo-supplychain repo accept "
            f"{inbox} --only {done.refused[0].name[:_DIGITS]} --discard-refused"
        )
    elif done.taken:
        yield "next: margo-supplychain repo check"


def _more(number: int) -> Iterator[str]:
    if number > _FEW:
        yield f"  and {number - _FEW} more: --format json lists them"


def _taken_row(one: Taken) -> tuple[str, ...]:
    roles = ", ".join(f"{role} v{version}" for role, version in one.roles[:3])
    if len(one.roles) > 3:
        roles += f" and {len(one.roles) - 3} more"
    releases = ", ".join(one.releases[:3]) or "no new release"
    if len(one.releases) > 3:
        releases += f" and {len(one.releases) - 3} more"
    return (one.publisher, releases, roles, one.note or "")


def _data(author: Author, inbox: str, done: Accepted) -> dict[str, Any]:
    return {
        "repository": author.place,
        "inbox": inbox,
        "taken": [_taken(one) for one in done.taken],
        "known": [_taken(one) for one in done.known],
        "refused": [_refused(one) for one in done.refused],
        "signed": signed_data(done.written.roles),
        "content": {
            "new": done.written.blobs_new,
            "there": done.written.blobs_there,
        },
        "removed": list(done.removed),
        "more": done.more,
        "warnings": list(done.warnings),
    }


def _taken(one: Taken) -> dict[str, Any]:
    return {
        "name": one.name,
        "publisher": one.publisher,
        "roles": [{"role": role, "version": version} for role, version in one.roles],
        "releases": list(one.releases),
        "note": one.note,
    }


def _refused(one: Refusal) -> dict[str, Any]:
    return {
        "name": one.name,
        "publisher": one.publisher,
        "code": one.code,
        "reason": one.reason,
        "hint": one.hint,
        "undecided": one.is_open,
    }
