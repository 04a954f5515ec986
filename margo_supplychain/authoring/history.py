"""Which keys a role ever had: one that left never returns.

A key that was taken from a role may be known to a thief, and old metadata that it
signed would be believed again. What is looked at are the delegator's versions that lie
in the directory: where they were removed, and for a key that left another repository,
nothing is known. That is the limit of this rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain import threshold
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, FormatError, RefusedError
from margo_supplychain.formats.tuf_metadata import file_name, parse_role

if TYPE_CHECKING:
    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.transport.protocols import Source


def require_no_return(
    source: Source, role: str, keys: RoleKeys, *, now: RoleSigners | None, newest: int
) -> None:
    """Refuse keys that the role had once and has no more.

    Args:
        source: the repository.
        role: a publisher's or application's role.
        keys: the keys that it shall have.
        now: those that it has.
        newest: the trusted version of its delegator; files above it were never seen.

    Raises:
        RefusedError: one of the keys left the role before.
    """
    kept = set()
    if now is not None:
        kept = {threshold.material(key) for key in now.keys.values()}
    returning = {
        threshold.material(key): key
        for key in keys.keys
        if threshold.material(key) not in kept
    }
    delegator = delegator_of(role)
    for version in range(1, newest + 1):
        for found in _materials(source, role, delegator, version):
            if found in returning:
                raise RefusedError(
                    f"key {returning[found].keyid[:12]} left the role {role} after "
                    f"{delegator} v{version}",
                    hint="a key that left never returns: make a new one with "
                    "`key generate`",
                )


def _materials(source: Source, role: str, delegator: str, version: int) -> set[str]:
    try:
        data = source.metadata(file_name(delegator, version), limit=LIMITS.targets)
        file = parse_role(data, role=delegator, limit=LIMITS.targets)
        found = signers_of(file.signed, role)
    except (FetchError, FormatError):
        return set()  # a version that was skipped, or removed
    if found is None:
        return set()
    return {threshold.material(key) for key in found.keys.values()}
