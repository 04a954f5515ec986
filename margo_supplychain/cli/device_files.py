"""Files that `device verify` leaves of its answer: how the chain was judged, a summary.

Written for yes and for no, and in the place of what an earlier answer left: an old
picture beside a new verdict would mislead. That one can't be written never hides a no.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import click

from margo_supplychain.cli import device_chain
from margo_supplychain.errors import (
    InconclusiveError,
    RefusedError,
    StorageError,
    SupplyChainError,
    VerificationError,
)
from margo_supplychain.storage.durable import write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.cli.invocation import Invocation
    from margo_supplychain.formats.reports import Report

FORMS: Final = (".json", ".dot", ".svg")


@final
class AnswerFiles:
    """What is written of one answer.

    Args:
        explain_to: how the provenance was judged; the name's end says in which form.
        vsa: the verification summary to be signed.
        read: files that the command reads, which are never written over.

    Raises:
        UsageError: another form; one file is named twice.
    """

    def __init__(
        self, explain_to: str | None, vsa: str | None, *, read: Sequence[str | None]
    ) -> None:
        if explain_to is not None and Path(explain_to).suffix not in FORMS:
            raise click.UsageError(
                f"--explain-to {explain_to} ends in none of {', '.join(FORMS)}"
            )
        written = [one for one in (explain_to, vsa) if one is not None]
        named = [os.path.realpath(one) for one in (*written, *read) if one is not None]
        if len(set(named)) != len(named):
            raise click.UsageError(
                "one file is named twice: --explain-to and --vsa write files of their "
                "own"
            )
        self._explain_to = None if explain_to is None else Path(explain_to)
        self._vsa = None if vsa is None else Path(vsa)

    @property
    def said(self) -> list[str]:
        """Return a line for each file that is written of a yes."""
        return [f"wrote {one}" for one in (self._explain_to, self._vsa) if one]

    @contextmanager
    def written(self, invocation: Invocation) -> Iterator[list[Report]]:
        """Write the files once the block has ended, in a no or with a yes in the list.

        Raises:
            RefusedError: of this yes nobody should sign a summary.
            StorageError: a yes can't be written down.
        """
        answers: list[Report] = []
        try:
            yield answers
        except (VerificationError, InconclusiveError) as error:
            self._write_no(error, invocation)
            raise
        (answer,) = answers
        if self._explain_to is not None:
            write_file(self._explain_to, explained(answer, self._explain_to))
        if self._vsa is not None:
            try:
                data = answer.to_vsa()
            except ValueError as why:
                raise RefusedError(
                    f"{self._vsa} is not written: {why}",
                    hint="summaries are made where the full chain was judged",
                ) from why
            write_file(self._vsa, data)

    def _write_no(self, error: SupplyChainError, invocation: Invocation) -> None:
        # A no is said, whatever becomes of its files.
        report = error.report
        if report is not None and self._explain_to is not None:
            with _noted(self._explain_to, invocation):
                data = explained(report, self._explain_to, error)
                write_file(self._explain_to, data)
        if report is not None and self._vsa is not None:
            with _noted(self._vsa, invocation):
                write_file(self._vsa, report.to_vsa())


@contextmanager
def _noted(path: Path, invocation: Invocation) -> Iterator[None]:
    try:
        yield
    except (StorageError, ValueError) as why:
        invocation.note(f"{path} is not written: {why}")
    else:
        invocation.note(f"wrote {path}")


def explained(report: Report, path: Path, error: Exception | None = None) -> bytes:
    """Return how the chain was judged, in the form that the name's end says."""
    if path.suffix == ".json":
        return device_chain.document(report, error)
    from margo_supplychain.cli.device_picture import picture_of

    picture = picture_of(report, error)
    return picture.dot() if path.suffix == ".dot" else picture.svg()
