"""What a change of root means for devices and for whoever comes after it.

Pure over two roots. Nothing here decides: what would lock somebody out is refused by
`proposal_rules`, this says what remains.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.roles import materials_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from tuf.api.metadata import Root

# Signed by whoever root names, and believed by devices without being asked for again.
_SIGNED: Final = ("targets", "snapshot", "timestamp")
SOON: Final = timedelta(days=30)  # less is no time to bring holders together


def renewals(old: Root, new: Root) -> tuple[str, ...]:
    """Return the roles whose files may no longer be signed by enough of their keys.

    Of the keys that signed them, as many as left the role may be gone.
    """
    found = []
    for role in _SIGNED:
        before, after = materials_of(old, role), materials_of(new, role)
        sure = old.roles[role].threshold - len(before - after)
        if sure < new.roles[role].threshold:
            found.append(role)
    return tuple(found)


def leaving_needed(old: Root, new: Root) -> int:
    """Return how many of the root keys that leave must sign for the old threshold."""
    staying = materials_of(old, "root") & materials_of(new, "root")
    return max(0, old.roles["root"].threshold - len(staying))


def expires_soon(expires: datetime, now: datetime) -> Iterator[str]:
    """Say that a root lasts too short a time for a next one to be signed at leisure."""
    left = expires - now
    if left >= SOON:
        return
    for unit, name in (
        (timedelta(days=1), "d"),
        (timedelta(hours=1), "h"),
        (timedelta(minutes=1), "min"),
        (timedelta(seconds=1), "s"),
    ):
        if left >= 2 * unit or name == "s":
            lasts = f"{max(left // unit, 0)} {name}"
            yield f"expires in {lasts}: devices take nothing then, until a next root"
            return


def effects_of(
    old: Root | None, new: Root, renewed: tuple[str, ...]
) -> tuple[str, ...]:
    """Return what a root means, one sentence each."""
    return tuple(_effects(old, new, renewed))


def _effects(old: Root | None, new: Root, renewed: tuple[str, ...]) -> Iterator[str]:
    if old is None:
        yield (
            "devices trust it by the sha256 that `repo init` prints, which they get "
            "apart from it"
        )
    else:
        again = "nothing else must be signed again"
        if renewed:
            again = f"signed again with it: {', '.join(renewed)}"
        yield f"devices on root v{old.version} follow; {again}"
        yield from _forgotten(old, new)
        yield from of_leaving(old, new)
    count, needed = len(new.roles["root"].keyids), new.roles["root"].threshold
    if needed == count:
        keys = "its one key" if count == 1 else f"one of its {count} keys"
        yield f"no spare: without {keys} nobody can ever change root again"
    elif old is not None and needed < old.roles["root"].threshold:
        yield f"{needed} of {count} root keys decide from now on"
    yield from _mixed(new)


def _forgotten(old: Root, new: Root) -> Iterator[str]:
    """Say where devices begin to count anew: the way back from a stolen online key."""
    gone = [
        role
        for role in ("snapshot", "timestamp")
        if not materials_of(old, role) & materials_of(new, role)
    ]
    if gone:
        yield (
            f"devices forget the versions of {' and '.join(gone)}, whose keys are all "
            "new: what a thief of the old ones signed is undone"
        )


def of_leaving(old: Root, new: Root) -> Iterator[str]:
    """Say that a lost key can't be replaced like this."""
    needed = leaving_needed(old, new)
    gone = len(materials_of(old, "root") - materials_of(new, "root"))
    if needed and gone == 1:
        yield (
            "the root key that leaves must sign it: if it is lost, nobody can adopt "
            "this root"
        )
    elif needed:
        yield (
            f"{needed} of the {gone} root keys that leave must sign it: if they are "
            "lost, nobody can adopt this root"
        )


def _mixed(new: Root) -> Iterator[str]:
    online = materials_of(new, "snapshot") | materials_of(new, "timestamp")
    for role in ("root", "targets"):
        if materials_of(new, role) & online:
            yield f"a key of {role} is an online key: who breaks into it owns {role}"
