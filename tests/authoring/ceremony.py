"""Root ceremonies in one process, for tests: everybody's key is at hand."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.plan import RoleKeys
from tests.authoring.trust import key

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.authoring.proposals import SignedRoot
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.verify.clock import Clock
    from margo_supplychain.verify.trust_store import TrustStore


def keys_of(*names: str, threshold: int = 1) -> RoleKeys:
    """Return the throw-away keys of these names as a role's."""
    found = tuple(key(name).public_key for name in names)
    return RoleKeys(keys=found, threshold=threshold)


def signed_root(
    repository: Repository,
    signers: Sequence[str],
    *,
    clock: Clock,
    state: TrustStore | None = None,
    **changes: Any,
) -> SignedRoot:
    """Return the next root, with changes to the plan that stands, signed."""
    plan = replace(repository.plan(clock=clock, state=state), **changes)
    proposal = repository.propose_root(plan, clock=clock, state=state)
    for name in signers:
        proposal = proposal.sign(key(name))
    return proposal.finalize()
