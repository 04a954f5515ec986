"""Handing in what is signed, in place of publishing it: the options and the words.

`@submits` gives a command of `signs` the options `--submit INBOX`, `--out FILE` and
`--note`; the command itself does not change: its `Author` edits a view of the
operator's repository, and what it signs goes to the inbox.

Example:
    >>> @app.command()
    ... @signs
    ... @submits
    ... def policy(author: Author) -> Result: ...
"""

from __future__ import annotations

import functools
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from margo_supplychain.cli.failures import PROGRAM

if TYPE_CHECKING:
    from collections.abc import Callable

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.written import HandedIn
    from margo_supplychain.cli.author import Author
    from margo_supplychain.cli.output import Result
    from margo_supplychain.transport.network import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitting:
    """Where what a vendor signs is handed in.

    Args:
        place: the inbox; empty if it goes into the file alone.
        file: where it goes while signatures are missing.
        note: one line for the operator.
    """

    place: str
    file: Path | None = None
    note: str | None = None

    def inbox(self, network: Network | None) -> Inbox | None:
        """Open the inbox; nothing is read yet.

        Raises:
            FormatError: it is none.
        """
        from margo_supplychain.authoring.inbox import open_inbox

        return open_inbox(self.place, network=network) if self.place else None


def submits(command: Callable[..., Result]) -> Callable[..., Result]:
    """Give a command of `signs` the options to hand in what it would publish."""

    @click.option(
        "--submit",
        "inbox",
        metavar="INBOX",
        help="Hand in what your keys sign, for the operator to publish: DIR or oci://…",
    )
    @note_option
    @out_option
    @functools.wraps(command)
    def with_inbox(
        author: Author,
        *arguments: Any,
        inbox: str | None,
        out: str | None,
        note: str | None,
        **options: Any,
    ) -> Result:
        if inbox or out:
            author = hands_in(author, inbox or "", out=out, note=note)
        elif note is not None:
            raise click.UsageError("--note goes with --submit or --out")
        return sent_on(command(author, *arguments, **options))

    return with_inbox


out_option = click.option(
    "--out",
    metavar="FILE",
    help="Where it goes while signatures of others are missing.",
)
note_option = click.option(
    "--note", metavar="TEXT", help="One line for the operator, who takes it in."
)


def hands_in(
    author: Author, inbox: str, *, out: str | None, note: str | None
) -> Author:
    """Return the same author, who hands in what he signs.

    Raises:
        click.UsageError: the note is no line.
    """
    from margo_supplychain.authoring.submission import MAX_NOTE
    from margo_supplychain.cli.arguments import typed
    from margo_supplychain.formats.fields import line

    if note is not None:
        with typed(f"--note is one line of at most {MAX_NOTE} characters"):
            line(note, what="--note", limit=MAX_NOTE)
    file = None if out is None else Path(out)
    return replace(author, submission=Submitting(place=inbox, file=file, note=note))


def handed_in(edit: Edit) -> HandedIn | None:
    """Return what an edit handed in; None if it published, or changed nothing."""
    from margo_supplychain.authoring.written import HandedIn

    return edit.written if isinstance(edit.written, HandedIn) else None


def submission_data(found: HandedIn) -> dict[str, Any]:
    """Return where a submission is, for JSON."""
    return {
        "name": found.name or None,
        "inbox": found.inbox,
        "file": None if found.file is None else str(found.file),
        "after": list(found.after),
        "blobs": found.blobs_along,
        "lacking": list(found.lacking),
    }


def sent_on(result: Result) -> Result:
    """Let a command that wrote a file end with who must sign it, and exit status 5."""
    found = result.data.get("submission")
    if not found or not found["lacking"]:
        return result
    file = shlex.quote(found["file"])
    lines = [one for one in result.lines if not one.startswith("next: ")]
    sign = f"{PROGRAM} root sign {file} --key …"
    submit = f"{PROGRAM} release submit {file}"
    return result._replace(
        lines=[
            *lines,
            f"incomplete: {'; '.join(found['lacking'])}",
            f"next: send {file} to the holders of those keys: {sign}; then {submit}",
        ],
        exit_status=5,
    )


def handed_in_text(found: HandedIn) -> str:
    """Return where a submission is, for people."""
    if found.inbox is None:
        return f"written to {found.file}"
    return f"handed in as {found.name[:12]} to {found.inbox}"
