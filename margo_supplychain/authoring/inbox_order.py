"""In which order submissions are looked at: by what their lists say, unsigned.

Whoever may write to an inbox may hand in a part of what somebody else has handed in,
with its signatures: a publisher's role without the application's that belongs to it. So
what holds all of another submission, byte for byte, comes before it; what is left of
the other is known then. Else the first come by version, as they follow each other.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from margo_supplychain.errors import SupplyChainError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

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
