"""In which order submissions are looked at: by what their lists say, unsigned.

Whoever may write to an inbox may hand in a part of what somebody else has handed in,
with its signatures: a publisher's role without the application's that belongs to it. So
what holds all of another submission, byte for byte, comes before it; what is left of
the other is known then. Else the first come by version, as they follow each other.

What takes keys away comes before what their thief may have handed in, and so does what
it follows.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SupplyChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from margo_supplychain.authoring.inbox import Inbox
    from margo_supplychain.authoring.submission_file import Claim

MOST_TIME: Final = 60.0  # seconds, on lists alone: the rest comes as it is named


def claims_of(
    inbox: Inbox,
    names: Sequence[str],
    *,
    now: Callable[[], float] = time.monotonic,
) -> Mapping[str, Claim]:
    """Return what submissions say they are, as far as that can be read in time."""
    ends = now() + MOST_TIME
    found = {}
    for name in names:
        if now() > ends:
            break
        try:
            found[name] = inbox.claim(name)
        except SupplyChainError:
            continue  # why it is refused is found when it is judged
    return found


def in_order(names: Sequence[str], claims: Mapping[str, Claim]) -> list[str]:
    """Return these names, what holds all of another before it.

    Args:
        names: all of them; those without a claim come last.
        claims: of those that have one.
    """
    roles = {name: frozenset(claims[name].roles) for name in names if name in claims}
    holding: dict[tuple[str, int, str], list[str]] = {}
    for name, held in roles.items():
        for one in held:
            holding.setdefault(one, []).append(name)
    order: dict[str, None] = {}
    for name in sorted(roles, key=lambda one: (claims[one], one)):
        held = roles[name]
        # Whoever holds all of it, holds what fewest others do.
        rarest = min((holding[one] for one in held), key=len, default=[])
        above = [other for other in rarest if len(roles[other]) > len(held)]
        for other in sorted(above, key=lambda other: -len(roles[other])):
            if other not in order and held < roles[other]:
                order[other] = None
        order.setdefault(name)
    return [*order, *(one for one in names if one not in roles)]


def followed_by(
    names: Iterable[str],
    claims: Mapping[str, Claim],
    *,
    taken: Collection[str] = frozenset(),
) -> set[str]:
    """Return what these follow, directly or not: lower versions of roles they hold.

    Args:
        names: of submissions.
        claims: of these, and of the others among which is looked.
        taken: roles whose keys are taken away. Who signed only below the publisher's
            role may be the thief of these keys, and nothing has to follow him.
    """
    lower: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for name, claim in claims.items():
        roles = {role for role, _, _ in claim.roles}
        if claim.publisher not in roles and not roles.isdisjoint(taken):
            continue
        for role, version, _ in claim.roles:
            lower.setdefault((claim.publisher, role), []).append((version, name))
    for versions in lower.values():
        versions.sort(reverse=True)
    given = set(names)
    found, left = set(given), [*given]
    while left:
        one = claims.get(left.pop())
        if one is None:
            continue
        for role, version, _ in one.roles:
            others = lower.get((one.publisher, role), [])
            while role not in taken and others and others[-1][0] < version:
                other = others.pop()[1]
                if other not in found:
                    found.add(other)
                    left.append(other)
    return found - given
