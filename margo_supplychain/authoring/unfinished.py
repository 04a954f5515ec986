"""A root that is published, while what it changes is not signed for it yet.

A run that was killed between the two leaves that, and so does whoever brings an old
timestamp back. Devices refuse the place and keep what they have, until it is finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tuf.api.metadata import Timestamp

from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Roots
from margo_supplychain.errors import FetchError
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tuf.api.metadata import MetaFile, Root, Snapshot

    from margo_supplychain.transport.protocols import Source

FINISH: Final = (
    "run `margo-supplychain root finalize` again, or `margo-supplychain repo refresh`, "
    "with the keys that it names: it goes on"
)


def unfinished(source: Source, found: Roots) -> str | None:
    """Say that a root is there, and what lies beside it is still the one's before.

    Args:
        source: the place, unverified.
        found: its roots.
    """
    *before, new = found.chain
    if found.problem is not None or not before:
        return None
    role = _left_behind(source, new.signed, [one.signed for one in reversed(before)])
    if role is None:
        return None
    return f"root v{new.version} is published, and {role} is not signed for it yet"


def _left_behind(source: Source, new: Root, before: Sequence[Root]) -> str | None:
    """Return the first top-level role that is signed for a root before the newest."""
    names: Mapping[str, str] = {"timestamp": TIMESTAMP}
    for role in ("timestamp", "snapshot", "targets"):
        try:
            data = source.metadata(names[role], limit=LIMITS.targets)
        except (FetchError, KeyError):
            return None
        file = signed_by(data, require_who(new, role))
        if file is None:
            is_old = any(signed_by(data, require_who(one, role)) for one in before)
            return role if is_old else None
        if role != "targets":
            names = {
                name.removesuffix(".json"): file_name(
                    name.removesuffix(".json"), entry.version
                )
                for name, entry in _entries(file.signed).items()
            }
    return None


def _entries(signed: Timestamp | Snapshot) -> Mapping[str, MetaFile]:
    if isinstance(signed, Timestamp):
        return {"snapshot.json": signed.snapshot_meta}
    return signed.meta
