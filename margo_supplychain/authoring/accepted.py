"""What became of the submissions in an inbox: taken, known, or refused and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from margo_supplychain.authoring.written import Written

if TYPE_CHECKING:
    from margo_supplychain.authoring.submission_changes import RoleChange


class Taken(NamedTuple):
    """A submission that is published.

    Args:
        name: sha256 of its file.
        publisher: whose it was.
        roles: (role, version) of what is new; empty if all of it was published before.
        releases: those that were not listed before, as `acme/pump-monitor 1.2.0`.
        note: what its vendor wrote.
        said: `Submission.said`, to compare with who signed it.
        changes: what it changes, role by role.
    """

    name: str
    publisher: str
    roles: tuple[tuple[str, int], ...]
    releases: tuple[str, ...]
    note: str | None
    said: str
    changes: tuple[RoleChange, ...] = ()


class Refusal(NamedTuple):
    """A submission that is not taken.

    Args:
        name: sha256 of its file, as the inbox calls it.
        publisher: whose it says it is, which nobody may have signed; None if it does
            not even say that.
        reason: in one line.
        code: of the error.
        hint: what can be done.
        is_open: it could not be decided, and may be taken the next time.
        is_early: it follows a version that is not published.
    """

    name: str
    publisher: str | None
    reason: str
    code: str
    hint: str | None
    is_open: bool
    is_early: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What `Repository.accept` did.

    Args:
        taken: what is published now; of a dry run, what would be.
        known: what was published before; it is cleaned away.
        refused: what is not, and why.
        written: roles that were signed and taken in, and content.
        more: there is more in the inbox, which was not looked at.
        removed: names that are not in the inbox any more.
        warnings: what the operator should know, one line each.
    """

    taken: tuple[Taken, ...] = ()
    known: tuple[Taken, ...] = ()
    refused: tuple[Refusal, ...] = ()
    written: Written = field(default_factory=Written)
    more: bool = False
    removed: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
