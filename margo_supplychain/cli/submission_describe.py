"""What a submission changes, as lines: for who signs it, and who takes it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.cli import describe
from margo_supplychain.formats.plain_text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_changes import RoleChange

MANY_ROWS: Final = 200  # of a role; JSON has all, and so has who signs


def heading(submission: Submission) -> list[str]:
    """Return whose it is, what to compare it by, and its note."""
    rows = [("sha256", f"{submission.said}, whoever has signed it")]
    if submission.note is not None:
        rows.append(("note", plain(submission.note)))
    return [f"submission of {submission.publisher}", *describe.table(rows)]


def change_lines(
    changes: Sequence[RoleChange], *, most: int | None = MANY_ROWS, indent: str = "  "
) -> Iterator[str]:
    """Yield what each role changes, for people.

    Args:
        changes: of `role_changes`.
        most: rows of one role; how many are left out is said. None for all of them:
            then their number is said behind them, where it is read.
        indent: before each line.
    """
    for one in changes:
        yield f"{indent}{_role(one)}, expires {describe.date(one.expires)}"
        if not one.rows and one.before is not None:
            yield f"{indent}  says the same again"
        for row in one.rows[:most]:
            yield f"{indent}  {row.line}"
        if most is not None and len(one.rows) > most:
            more = len(one.rows) - most
            yield f"{indent}  and {more} more: --format json lists them"
        elif len(one.rows) > MANY_ROWS:
            yield f"{indent}  {len(one.rows)} lines of {one.role}: read all of them"


def _role(one: RoleChange) -> str:
    if one.before is None:
        return f"{one.role} v{one.version}"
    if not one.before:
        return f"{one.role} v{one.version}, the first"
    return f"{one.role} v{one.before} -> v{one.version}"
