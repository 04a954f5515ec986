"""Names on a snapshot's list that nobody delegates to, or ever did.

Devices do not mind them, and a thief of snapshot's key may have put them there: a
publisher or application that takes such a name later begins above the version that is
listed. They can't be taken off again, since for a device a listed role never vanishes.
Roles that were removed stay on the list for the same reason; their delegator, or
`targets`, signs that they were (`delegator_fields`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.delegator_fields import removed_roles
from margo_supplychain.authoring.roles import check_role, delegator_of, signers_of
from margo_supplychain.errors import FormatError
from margo_supplychain.formats.tuf_metadata import TOP_LEVEL

if TYPE_CHECKING:
    from collections.abc import Iterator

    from margo_supplychain.verify.refresh import Walk


def strays(walk: Walk) -> Iterator[str]:
    """Yield what is wrong with the list, as far as its roles were read so far."""
    snapshot = walk.workflow.snapshot
    for name, entry in sorted(snapshot.signed.meta.items()) if snapshot else ():
        if _is_stray(walk, name.removesuffix(".json")):
            yield (
                f"snapshot lists {name[:160]!r} v{entry.version}, and nobody delegates "
                "to that: somebody else may have used the keys of snapshot and "
                "timestamp"
            )


def _is_stray(walk: Walk, role: str) -> bool:
    if role in TOP_LEVEL:
        return role != "targets"
    try:
        delegator = delegator_of(check_role(role))
        parent = walk.workflow.roles.get(delegator)
        if _was_removed(walk, role, delegator):
            return False
        if parent is not None:
            return signers_of(parent.signed, role) is None
    except FormatError:
        return True
    # Not read: its delegator may be a stray itself.
    return _is_stray(walk, delegator)


def _was_removed(walk: Walk, role: str, delegator: str) -> bool:
    # Of the applications of a publisher that was removed, `targets` says it.
    known = (walk.workflow.roles.get(one) for one in ("targets", delegator))
    return any(one is not None and role in removed_roles(one.signed) for one in known)
