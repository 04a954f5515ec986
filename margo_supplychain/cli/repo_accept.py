"""`repo accept`: the operator publishes what vendors have submitted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from margo_supplychain.cli import describe, signing_keys
from margo_supplychain.cli.author import RETRY, UNPUBLISHED, signed_data, signs, warn
from margo_supplychain.cli.failures import hinted
from margo_supplychain.cli.options import epilog, missing_setting
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.progress import progress
from margo_supplychain.cli.submission_describe import change_lines
from margo_supplychain.formats.plain_text import plain

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
            "repo accept inbox --dry-run",
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
@click.option(
    "--dry-run",
    "is_dry",
    is_flag=True,
    help="Show what would be taken, and what it changes; needs no key.",
)
@signs
def accept(
    author: Author,
    *,
    inbox: str | None,
    only: tuple[str, ...],
    discard: bool,
    is_dry: bool,
) -> Result:
    """Judge what vendors have submitted, and publish what is good.

    INBOX is a directory or oci://…; the setting inbox by default. Each submission is
    taken whole, or refused with the reason; one that is refused stands in nobody's way.
    Exit status 5: something is refused.
    """
    place = inbox or _setting(author)
    if is_dry:
        if discard:
            raise click.UsageError("--dry-run removes nothing: not --discard-refused")
        return _preview(author, place, only)
    return _accept(author, place, only, discard=discard)


def _preview(author: Author, place: str, only: tuple[str, ...]) -> Result:
    from margo_supplychain.authoring.inbox import open_inbox

    _, network = author.invocation.settings.registries
    opened = open_inbox(place, network=network)
    with hinted(RETRY), author.explained():
        done = author.open().accept(
            opened, (), only=only, dry_run=True, state=author.memory()
        )
    warn(author.invocation, done.warnings)
    return Result(
        data=_data(author, opened.url, done, is_dry=True),
        lines=list(_looked_at(opened.url, done)),
        exit_status=5 if done.refused else 0,
    )


def _accept(
    author: Author, place: str, only: tuple[str, ...], *, discard: bool
) -> Result:
    from margo_supplychain.authoring.inbox import open_inbox
    from margo_supplychain.transport.mirrors import MirroredContent

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
            # Vendors say where it lies, and it is passed on to everybody.
            content=MirroredContent(
                mirrors, network=network, anonymous=True, trust=repository.url
            ),
            time_checked=author.time_checked,
            state=memory,
            progress=tell,
        )
    warn(author.invocation, done.warnings)
    return Result(
        data=_data(author, opened.url, done, is_dry=False),
        lines=list(_lines(opened.url, done)),
        exit_status=5 if done.refused else 0,
    )


def _setting(author: Author) -> str:
    setting = author.invocation.settings.find("inbox")
    if setting is None or not setting.values:
        raise click.UsageError(missing_setting("inbox", "the argument INBOX"))
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
    for one in done.taken[:_FEW]:
        yield from _taken_lines(one)
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
    yield from _refusals(done)
    if done.refused:
        yield from _after(inbox, done)
    elif done.taken:
        yield "next: margo-supplychain repo check"


def _looked_at(inbox: str, done: Accepted) -> Iterator[str]:
    """Yield what would be taken, and nothing was."""
    number = len(done.taken) + len(done.refused)
    if number:
        counted = describe.counted(number, "submission")
        yield f"would accept {len(done.taken)} of {counted} from {inbox}"
    else:
        yield f"would accept nothing: {inbox} holds nothing new"
    for one in done.taken[:_FEW]:
        yield f"  {one.name}"
        yield f"    sha256 {one.said}, whoever has signed it"
        if one.note:
            yield f"    note   {plain(one.note)}"
        yield from change_lines(one.changes, indent="    ")
    yield from _more(len(done.taken))
    if done.known:
        yield f"published before: {describe.counted(len(done.known), 'submission')}"
    yield from _refusals(done)
    if done.taken:
        yield "  content  not looked at: it is read and compared when it is taken"
        # Those that were shown: what comes in the meantime was looked at by nobody.
        only = "".join(f" --only {one.name[:_DIGITS]}" for one in done.taken[:_FEW])
        yield f"next: margo-supplychain repo accept {inbox}{only}"


def _refusals(done: Accepted) -> Iterator[str]:
    for one in done.refused[:_FEW]:
        yield f"refused {one.name[:_DIGITS]}: {one.reason}"
        if one.hint:
            yield f"  {one.hint}"
    yield from _more(len(done.refused))


def _after(inbox: str, done: Accepted) -> Iterator[str]:
    """Yield what became of the refused ones, and what is left to do."""
    gone = [one for one in done.refused if one.name in done.removed]
    left = [one for one in done.refused if one.name not in done.removed]
    if gone:
        names = ", ".join(one.name[:_DIGITS] for one in gone[:_FEW])
        yield f"removed from {inbox}: {names}"
        yield from _more(len(gone))
    if left:
        yield (
            "next: tell its vendor, or remove it: margo-supplychain repo accept "
            f"{inbox} --only {left[0].name[:_DIGITS]} --discard-refused"
        )
    else:
        yield "next: tell whoever handed in what was refused"


def _more(number: int) -> Iterator[str]:
    if number > _FEW:
        yield f"  and {number - _FEW} more: --format json lists them"


def _taken_lines(one: Taken) -> Iterator[str]:
    roles = ", ".join(f"{role} v{version}" for role, version in one.roles[:3])
    if len(one.roles) > 3:
        roles += f" and {len(one.roles) - 3} more"
    note = f"  {plain(one.note)}" if one.note else ""
    yield f"  {one.name[:_DIGITS]}  {one.publisher}  {roles}{note}"
    rows = [row for change in one.changes for row in change.rows]
    for row in rows[:_FEW]:
        yield f"    {row.line}"
    if len(rows) > _FEW:
        yield f"    and {len(rows) - _FEW} more: --format json lists them"
    if not rows:
        yield "    says the same again"


def _data(
    author: Author, inbox: str, done: Accepted, *, is_dry: bool
) -> dict[str, Any]:
    return {
        "repository": author.place,
        "inbox": inbox,
        "dryRun": is_dry,
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
        "sha256": one.said,
        "changes": [change.to_dict() for change in one.changes],
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
