"""Which keys a role ever had: one that left never returns.

A key that was taken from a role may be known to a thief, and old metadata that it
signed would be believed again. The delegator signs which keys left (`x-left`), also of
roles that were removed; its older versions are looked at as well, as far as they lie
there. For a key that left another repository nothing is known: that is the limit of
this rule.
"""

from __future__ import annotations

import time
from math import inf
from typing import TYPE_CHECKING, Final, final

from margo_supplychain import threshold
from margo_supplychain.authoring.roles import delegator_of, signers_of
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import (
    BudgetError,
    FetchError,
    FormatError,
    RefusedError,
)
from margo_supplychain.formats.tuf_metadata import file_name, parse_role

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.plan import RoleKeys
    from margo_supplychain.authoring.roles import RoleSigners
    from margo_supplychain.transport.protocols import Source

# At each end of a role's versions: the thief of its keys may have left out millions.
MOST_READ: Final = 5_000
MOST_TIME: Final = 600.0  # seconds, on the versions of one delegator in one run
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
    known: KeyHistory | None = None,
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
        known: what was read before, for many roles of one delegator.

    Raises:
        RefusedError: one of the keys left the role before.
        FetchError: nobody answers who could know.
        BudgetError: to find out takes too long; not without `known`.
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
    history = KeyHistory(most_time=inf) if known is None else known
    for version in _versions(newest, versions):
        history.read(source, delegator, version)
    had = history.keys_of(role)
    for found, key in returning.items():
        if found in had:
            raise RefusedError(
                f"key {key.keyid[:12]} left the role {role} after {delegator} "
                f"v{had[found]}",
                hint=_HINT,
            )


@final
class KeyHistory:
    """Which keys the versions of delegators gave their roles; each is read once.

    Args:
        most_time: seconds to read the versions of one delegator, who may have made them
            as large as he could.
    """

    def __init__(self, *, most_time: float = MOST_TIME) -> None:
        self._most_time = most_time
        self._spent: dict[str, float] = {}
        self._read: set[tuple[str, int]] = set()
        # Role → material → the last version that was read with it.
        self._had: dict[str, dict[str, int]] = {}

    def keys_of(self, role: str) -> Mapping[str, int]:
        """Return the material of each key that a role had, with the version."""
        return self._had.get(role, {})

    def read(self, source: Source, delegator: str, version: int) -> None:
        """Take in what a version of a delegator says of all its roles.

        Raises:
            FetchError: nobody answers who could know.
            BudgetError: its versions take too long.
        """
        if (delegator, version) in self._read:
            return
        spent = self._spent.get(delegator, 0.0)
        if spent > self._most_time:
            raise BudgetError(
                f"the versions of {delegator} take longer to look through than "
                f"{self._most_time:.0f} seconds",
                hint="clear away what nobody needs: margo-supplychain repo prune",
            )
        began = time.monotonic()
        for role, materials in _materials(source, delegator, version).items():
            had = self._had.setdefault(role, {})
            for found in materials:
                had[found] = max(version, had.get(found, 0))
        self._read.add((delegator, version))
        self._spent[delegator] = spent + time.monotonic() - began


def _versions(newest: int, listed: Sequence[int]) -> Iterator[int]:
    """Yield the versions to be read, the newest first: it may end before all are."""
    if listed:
        yield from (one for one in sorted(listed, reverse=True) if one <= newest)
        return
    yield from range(newest, max(MOST_READ, newest - MOST_READ), -1)
    yield from range(min(newest, MOST_READ), 0, -1)


def _materials(
    source: Source, delegator: str, version: int
) -> Mapping[str, frozenset[str]]:
    """Return the material of the keys of each role that a delegator names."""
    try:
        data = source.metadata(file_name(delegator, version), limit=LIMITS.targets)
        signed = parse_role(data, role=delegator, limit=LIMITS.targets).signed
    except FetchError as why:
        if why.unreachable:
            raise
        return {}  # a version that was skipped, or removed
    except FormatError:
        return {}
    return {role: _keys(signed, role) for role in _roles(signed)}


def _roles(signed: Root | Targets) -> Collection[str]:
    from tuf.api.metadata import Root

    if isinstance(signed, Root):
        return tuple(signed.roles)
    return () if signed.delegations is None else tuple(signed.delegations.roles or ())


def _keys(signed: Root | Targets, role: str) -> frozenset[str]:
    try:
        found = signers_of(signed, role)
    except FormatError:
        return frozenset()
    return frozenset() if found is None else found.materials()
