"""Find a target in any TUF repository: pre-order, depth first (TUF 5.6.7).

For repositories that are not ours (`margo_supplychain.conformance`); an application's
releases are never looked up this way, see `chain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.errors import BudgetError, UnknownTargetError

if TYPE_CHECKING:
    from tuf.api.metadata import TargetFile

    from margo_supplychain.verify.refresh import Walk


def find_target(walk: Walk, path: str, *, max_delegations: int) -> TargetFile:
    """Return what the first role in pre-order says of a target.

    Succinct hash bins (TAP 15) are included, and a terminating delegation ends the
    search.

    Raises:
        UnknownTargetError: no trusted role lists it.
        BudgetError: more roles than `max_delegations` would have to be visited.
    """
    pending = [("targets", "root")]
    visited: set[str] = set()
    while pending:
        role, delegator = pending.pop()
        if role in visited:
            continue
        if len(visited) > max_delegations:
            raise BudgetError(
                f"{path} is not in the first {max_delegations} delegations",
                hint="the repository delegates more widely than the limit",
            )
        signed = walk.role(role, delegator).signed
        found = signed.targets.get(path)
        if found is not None:
            return found
        visited.add(role)
        if signed.delegations is None:
            continue
        children = []
        for child, terminating in signed.delegations.get_roles_for_target(path):
            children.append((child, role))
            if terminating:
                pending.clear()
                break
        pending.extend(reversed(children))
    raise UnknownTargetError(f"no trusted role lists {path}", name=path)
