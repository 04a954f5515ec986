"""What a submission changes, as lines: for who signs it, and who takes it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.plain_text import plain
from margo_supplychain.authoring.submission_changes import ADDED, CHANGED, REMOVED, SAID
from margo_supplychain.cli import describe

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from margo_supplychain.authoring.submission import Submission
    from margo_supplychain.authoring.submission_changes import RoleChange

MARKS: Final = {ADDED: "+", REMOVED: "-", CHANGED: "~", SAID: "="}
_MANY: Final = 200  # rows of a role; JSON has all


def heading(submission: Submission) -> list[str]:
    """Return whose it is, what to compare it by, and its note."""
    rows = [("sha256", f"{submission.said}, whoever has signed it")]
    if submission.note is not None:
        rows.append(("note", plain(submission.note)))
    return [f"submission of {submission.publisher}", *describe.table(rows)]


def change_lines(
    changes: Sequence[RoleChange], *, most: int = _MANY, indent: str = "  "
) -> Iterator[str]:
    """Yield what each role changes, for people.

    Args:
        changes: of `role_changes`.
        most: rows of one role; how many are left out is said.
        indent: before each line.
    """
    for one in changes:
        yield f"{indent}{_role(one)}, expires {describe.date(one.expires)}"
        if not one.rows and one.before is not None:
            yield f"{indent}  says the same again"
        for row in one.rows[:most]:
            yield f"{indent}  {MARKS[row.change]} {row.text}"
        if len(one.rows) > most:
            more = len(one.rows) - most
            yield f"{indent}  and {more} more: --format json lists them"


def _role(one: RoleChange) -> str:
    if one.before is None:
        return f"{one.role} v{one.version}"
    if not one.before:
        return f"{one.role} v{one.version}, the first"
    return f"{one.role} v{one.before} -> v{one.version}"
