"""`margo-supplychain repo`: make, renew and look after a trust repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

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
from margo_supplychain.cli.options import epilog
from margo_supplychain.cli.output import Result
from margo_supplychain.cli.repo_copy import mirror, push
from margo_supplychain.cli.repo_init import init
from margo_supplychain.cli.repo_prune import prune
from margo_supplychain.cli.repo_status import describe_status

if TYPE_CHECKING:
    from datetime import timedelta

    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.reports import Report, Step


@click.group()
def repo() -> None:
    """Make, renew and look after a trust repository."""


repo.add_command(init)
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
    repository = author.open()
    return describe_status(
        repository,
        repository.status(within=within, state=author.memory()),
        within=within,
        now=describe.now(),
    )


@repo.command(
    epilog=epilog(
        examples=["repo check", "repo check --repo trust --begin-from 1.root.json"],
        exits=[0, 2, 3, 4],
        follow="repo status --within 14d",
    )
)
@click.option(
    "--begin-from",
    "first_root",
    metavar="FILE",
    help="Begin your lost memory (--state) anew, from a root that you trust.",
)
@reads
def check(author: Author, *, first_root: str | None) -> Result:
    """Check everything as devices do, new ones and ones that saw the previous state."""
    from margo_supplychain.verify.trust_store import TrustStore

    repository = author.open()
    began = None
    if first_root is None:
        memory = author.memory()
    else:
        began = _Beginning.of(author, first_root, repository.publisher)
        memory = TrustStore.unsafe_without_memory(root=began.root)
    report = repository.check(state=memory)
    if report.verdict != "verified":
        raise _refusal(report, author.place)
    if began is not None:
        TrustStore.create(
            began.state, root=began.root, publishers=frozenset({began.publisher})
        )
        author.invocation.note(f"began {began.state} from {first_root}")
    rows = [(one.title, _facts(one)) for one in report.steps]
    return Result(
        data={"repository": author.place, "report": report.to_dict()},
        lines=[
            f"verified {author.place}: no problem found",
            *describe.table(rows),
        ],
    )


def _facts(step: Step) -> str:
    return ", ".join(f"{name} {value}" for name, value in step.facts.items())


class _Beginning(NamedTuple):
    """What a new memory is made from."""

    state: Path
    root: bytes
    publisher: str

    @classmethod
    def of(cls, author: Author, file: str, publisher: str | None) -> _Beginning:
        from margo_supplychain.cli.files import read_named
        from margo_supplychain.verify.limits import Limits

        if author.state is None:
            raise click.UsageError("--begin-from needs --state: where it shall be")
        if publisher is None:
            # The profile standard has several; this one is the author.
            setting = author.invocation.settings.find("publisher")
            publisher = None if setting is None else setting.values[0]
        if publisher is None:
            raise click.UsageError("--begin-from needs the setting publisher")
        root = read_named(Path(file), limit=Limits().root, what="a root")
        return cls(author.state, root, publisher)


def _refusal(report: Report, directory: str) -> SupplyChainError:
    from margo_supplychain.errors import (
        ExpiredError,
        InconclusiveError,
        VerificationError,
    )

    found = describe.counted(len(report.violations), "problem")
    if report.verdict == "rejected":
        hint = "devices refuse what is listed; do not publish from here before you "
        hint += "know why"
        if all(one.rule == ExpiredError.code for one in report.violations):
            hint = "devices refuse what has expired: sign it again with "
            hint += "`margo-supplychain repo refresh`; `repo status` says who must"
        error: VerificationError | InconclusiveError = VerificationError(
            f"{directory} has {found}", hint=hint
        )
    else:
        error = InconclusiveError(f"{directory} could not be checked: {found}")
    error.report = report
    return error


def _keys_of(role: str | None) -> tuple[str, ...]:
    if role is None or role in {"snapshot", "timestamp"}:
        return ()
    if role == "root":
        return signing_keys.ROOT
    if role == "targets":
        return signing_keys.TARGETS
    return signing_keys.RELEASE if "." in role else signing_keys.PUBLISHER
