"""What a new root may find where it belongs: itself, unfinished, or what is no root.

A root may be published while what it changes is not signed for it yet. A run that was
killed between the two leaves that, and so does whoever brings an old timestamp back.
Devices refuse the place and keep what they have, until it is finished.

Whoever may write there can also give the next root's name to what no device reads. The
root is written over it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tuf.api.metadata import Timestamp

from margo_supplychain.authoring.directory_place import DirectoryPlace
from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS, Roots
from margo_supplychain.authoring.vandalised import is_vandalised
from margo_supplychain.errors import FetchError, TooLargeError
from margo_supplychain.formats.tuf_metadata import file_name
from margo_supplychain.transport.locations import TIMESTAMP

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from tuf.api.metadata import MetaFile, Root, Snapshot

    from margo_supplychain.authoring.place import Place
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.formats.tuf_metadata import RoleFile
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


def is_no_root(place: Place, root: RoleFile[Root], problem: SupplyChainError) -> bool:
    """Say whether what has a root's name can't be one, whatever is in it.

    Args:
        place: where it lies.
        root: the one that belongs there.
        problem: why it can't be read.

    Raises:
        FetchError: that can't be found out.
    """
    if isinstance(problem, TooLargeError):
        return True
    path = _path(place, root)
    if path is not None:
        return path.is_symlink() or (path.exists() and not path.is_file())
    return is_vandalised(place.shelf, file_name("root", root.version))


def _path(place: Place, root: RoleFile[Root]) -> Path | None:
    if not isinstance(place, DirectoryPlace):
        return None
    return place.directory / "metadata" / file_name("root", root.version)
