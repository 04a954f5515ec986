"""Which keys a role ever had: one that left never returns.

A key that was taken from a role may be known to a thief, and old metadata that it
signed would be believed again. The delegator signs which keys left (`x-left`), also of
roles that were removed; its older versions are looked at as well, as far as they lie
there. For a key that left another repository nothing is known: that is the limit of
this rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain import threshold
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, FormatError, RefusedError
from margo_supplychain.formats.tuf_metadata import file_name, parse_role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.transport.protocols import Source

# At each end of a role's versions: the thief of its keys may have left out millions.
MOST_READ: Final = 5_000
_HINT: Final = "a key that left never returns: make a new one with `key generate`"


def require_no_return(
    source: Source,
    role: str,
    keys: RoleKeys,
    *,
    now: RoleSigners | None,
    newest: int,
    left: Collection[str] = frozenset(),
    versions: Sequence[int] = (),
) -> None:
    """Refuse keys that the role had once and has no more.

    Args:
        source: the repository.
        role: a publisher's or application's role.
        keys: the keys that it shall have.
        now: those that it has.
        newest: the trusted version of its delegator; files above it were never seen.
        left: material of keys of which its delegator or `targets` says that they left.
        versions: the delegator's versions that are there, where there is a list.

    Raises:
        RefusedError: one of the keys left the role before.
        FetchError: nobody answers who could know.
    """
    kept = frozenset[str]() if now is None else now.materials()
    returning = {
        threshold.material(key): key
        for key in keys.keys
        if threshold.material(key) not in kept
    }
    for found, key in returning.items():
        if found in left:
            raise RefusedError(
                f"key {key.keyid[:12]} left the role {role} before", hint=_HINT
            )
    if not returning:
        return
    delegator = delegator_of(role)
    for version in _versions(newest, versions):
        for found in _materials(source, role, delegator, version):
            if found in returning:
                raise RefusedError(
                    f"key {returning[found].keyid[:12]} left the role {role} after "
                    f"{delegator} v{version}",
                    hint=_HINT,
                )


def _versions(newest: int, listed: Sequence[int]) -> Iterator[int]:
    if listed:
        yield from (one for one in listed if one <= newest)
        return
    yield from range(1, min(newest, MOST_READ) + 1)
    yield from range(max(MOST_READ, newest - MOST_READ) + 1, newest + 1)


def _materials(
    source: Source, role: str, delegator: str, version: int
) -> frozenset[str]:
    try:
        data = source.metadata(file_name(delegator, version), limit=LIMITS.targets)
        file = parse_role(data, role=delegator, limit=LIMITS.targets)
        found = signers_of(file.signed, role)
    except FetchError as why:
        if why.unreachable:
            raise
        return frozenset()  # a version that was skipped, or removed
    except FormatError:
        return frozenset()
    return frozenset() if found is None else found.materials()
