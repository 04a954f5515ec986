"""How much a publisher's role may hold: of what it lists and delegates, and ever did.

Every device reads all of it, up to a limit; and what is said of roles that are no more
stays for ever. So what a publisher adds ends well below that limit, with room kept for
each role that he has: keys can be rotated, cut off and removed however full it is.

    applications    those that the snapshot lists, that it delegates to, and of which it
                    lists policies or says that keys left
    weight          the bytes of all that it may choose, a role with `KEPT_FREE` at
                    least: new keys of that size weigh nothing
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.delegator_fields import (
    CUT_OFF,
    LEFT,
    known_left,
)
from margo_supplychain.authoring.holders import HOLDERS, known_holders
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Collection

    from tuf.api.metadata import DelegatedRole, Targets

MOST_APPLICATIONS: Final = 2_000
"""Of one publisher: each has a place in the snapshot that every device reads."""
MOST_WEIGHT: Final = 5 << 20
"""Of the 16 MiB that devices read; keys that left may take 9, the rest is `x-cut-off`,
with an entry for each application, and signatures."""
KEPT_FREE: Final = 2_048  # bytes of one role: its patterns, and a few keys
_AGAIN: Final = "remove applications that were never published, or layouts of none"


def ever_named(signed: Targets | None, publisher: str) -> frozenset[str]:
    """Return the applications' roles that a publisher's role says anything of."""
    if signed is None:
        return frozenset()
    start = f"{publisher}."
    found = {one for one in known_left(signed) if one.startswith(start)}
    if signed.delegations is not None:
        found.update(signed.delegations.roles or {})
    for path in signed.targets:
        parts = path.split("/")
        if len(parts) == 4 and parts[0] == publisher:
            found.add(start + parts[2])
    return frozenset(found)


def require_few(
    what: str,
    publisher: str,
    old: Targets | None,
    new: Targets,
    *,
    listed: Collection[str],
) -> None:
    """Refuse more applications than one publisher may ever have.

    Those that were removed count as well: nothing that was published leaves the
    snapshot, nor what its publisher says of it.

    Args:
        what: the new file, for people.
        publisher: whose.
        old: what his role said.
        new: what it says.
        listed: the roles that the snapshot lists.

    Raises:
        RefusedError: there would be.
    """
    there = {one for one in listed if one.startswith(f"{publisher}.")}
    before = there | ever_named(old, publisher)
    ever = there | ever_named(new, publisher)
    most = max(MOST_APPLICATIONS, len(before))
    if len(ever) > most:
        now = 0 if new.delegations is None else len(new.delegations.roles or {})
        raise RefusedError(
            f"{what} delegates to {now} applications, which makes {len(ever)} with "
            f"those that were removed, more than {most}",
            hint="what was published once stays listed, and every device reads it",
        )


def require_light(what: str, old: Targets | None, new: Targets) -> None:
    """Refuse a publisher's role that grows beyond what leaves room for rotations.

    Raises:
        RefusedError: it does.
    """
    now = weight(new)
    most = max(MOST_WEIGHT, 0 if old is None else weight(old))
    if now > most:
        raise RefusedError(
            f"what {what} lists and delegates takes {now} bytes, more than {most}; "
            f"devices read {LIMITS.targets} of it",
            hint=_AGAIN,
        )


def weight(signed: Targets) -> int:
    """Return the bytes of what a publisher may choose, with room for new keys."""
    own = {LEFT, CUT_OFF, HOLDERS}
    found = sum(
        len(json.dumps([path, file.to_dict()])) for path, file in signed.targets.items()
    )
    found += sum(
        len(json.dumps([name, value]))
        for name, value in signed.unrecognized_fields.items()
        if name not in own
    )
    delegations = signed.delegations
    if delegations is None:
        return found
    holders = known_holders(signed)
    keys = {
        keyid: len(json.dumps([keyid, key.to_dict()]))
        + (
            len(json.dumps([keyid, holders[keyid].to_dict()]))
            if keyid in holders
            else 0
        )
        for keyid, key in delegations.keys.items()
    }
    roles = (delegations.roles or {}).values()
    used = {keyid for one in roles for keyid in one.keyids}
    found += sum(size for keyid, size in keys.items() if keyid not in used)
    return found + sum(max(KEPT_FREE, _size(one, keys)) for one in roles)


def _size(role: DelegatedRole, keys: dict[str, int]) -> int:
    named = sum(keys.get(keyid, 0) for keyid in role.keyids)
    return named + len(json.dumps(role.to_dict()))
