"""What an operator takes of rotations and removals: a role's past binds its future.

An application's releases and withdrawals, and a publisher's policies, are compared with
what the role said before. So it must be known which file that is, also when other keys
sign the next one, when they sign much later, and when an application of that name was
removed in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring import acceptance_rules
from margo_supplychain.authoring.delegator_fields import cut_offs
from margo_supplychain.authoring.roles import kind_of
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from tuf.api.metadata import MetaFile, Targets

    from margo_supplychain.authoring.prospect import Prospect
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.authoring.submission import Submission


def require_same_past(
    before: Prospect, after: Prospect, what: str, old: Targets | None, new: Targets
) -> None:
    """Refuse a delegator from which a role would go on otherwise than it stands.

    Of each role whose keys change, and of each application that is removed, there is
    either a file that its new keys have signed already, which is compared with the one
    before; or the delegator says which file that is (`x-cut-off`), so that the next one
    will be compared with it. Else releases and withdrawals would be forgotten.

    Args:
        before: the repository before it.
        after: with it, and with what was submitted beside it.
        what: the delegator's file.
        old: what it said.
        new: what it says.

    Raises:
        RefusedError: it names another file, or none.
        FetchError: a file of a role can't be read.
    """
    known, said = {} if old is None else cut_offs(old), cut_offs(new)
    for role in sorted(
        {
            *acceptance_rules.delegated(old),
            *acceptance_rules.delegated(new),
            *known,
            *said,
        }
    ):
        then, now = (
            acceptance_rules.who_signs(old, role),
            acceptance_rules.who_signs(new, role),
        )
        is_kept = _keys_of(then) == _keys_of(now)
        one = said.get(role)
        if is_kept and one == known.get(role):
            continue
        if one is None:
            _require_signed_anew(before, after, what, role, now)
            continue
        listed, stands = before.meta.get(f"{role}.json"), before.stands_at(role)
        if is_kept or listed is None or not _may_be_kept(role, now):
            raise RefusedError(
                f"{what} says that {role[:160]} was cut off (x-cut-off), and takes no "
                "keys away from it",
                hint=acceptance_rules.AGAIN,
            )
        if (one.listed, one.last) != (listed, stands):
            raise RefusedError(
                f"{what} lets {role} go on from {_named(one.last)} of it with "
                f"{_named(one.listed)} listed (x-cut-off), and {_named(stands)} stands "
                f"with {_named(listed)} listed",
                hint=acceptance_rules.AGAIN,
            )


def loses_keys(before: Prospect, submission: Submission) -> frozenset[str]:
    """Return the roles whose keys a submission takes away, if it is what it says.

    Raises:
        VerificationError, FetchError: what stands can't be read.
    """
    found = set()
    for one in submission.roles:
        if kind_of(one.role) == "application":
            continue
        old = before.standing(one.role)
        for role in acceptance_rules.delegated(old):
            then = acceptance_rules.who_signs(old, role)
            now = acceptance_rules.who_signs(one.signed, role)
            kept = frozenset[str]() if now is None else now.materials()
            if then is not None and then.materials() - kept:
                found.add(role)
    return frozenset(found)


def _require_signed_anew(
    before: Prospect, after: Prospect, what: str, role: str, now: RoleSigners | None
) -> None:
    if before.stands_at(role) is None or not _may_be_kept(role, now):
        return
    if now is None or not after.is_signed_by(now):
        raise RefusedError(
            f"{what} takes the keys of {role} away, and does not say from which file "
            "it goes on (x-cut-off)",
            hint="rotate or remove it with margo-supplychain publisher",
        )


def _may_be_kept(role: str, now: RoleSigners | None) -> bool:
    """Say whether a role's past binds: that of a publisher who was removed does not."""
    return now is not None or kind_of(role) == "application"


def _keys_of(who: RoleSigners | None) -> tuple[frozenset[str], int] | None:
    return None if who is None else (who.materials(), who.threshold)


def _named(file: MetaFile | None) -> str:
    return "nothing" if file is None else f"v{file.version}"
