"""Writing a root, and what follows once it is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.authoring.overlay import Staged, Until
from margo_supplychain.authoring.state import read_roots
from margo_supplychain.authoring.unfinished import is_no_root
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    StorageError,
    SupplyChainError,
)
from margo_supplychain.formats.tuf_metadata import file_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from tuf.api.metadata import Root

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.authoring.place import Place
    from margo_supplychain.formats.tuf_metadata import RoleFile


def moment(start: Beginning, root: RoleFile[Root]) -> datetime:
    """Return now; or when a root was issued, if its machine's clock was ahead."""
    return start.now if root.issued is None else max(start.now, root.issued)


def staged_root(root: RoleFile[Root]) -> Staged:
    """Return what writing a root would add, for devices to judge."""
    return Staged(metadata={file_name("root", root.version): root.data})


def write_root(place: Place, chain: Sequence[RoleFile[Root]]) -> None:
    """Write the last root of a chain: from now on devices follow it.

    Raises:
        ConflictError: somebody else's root was faster.
        StorageError, FetchError: it can't be written.
    """
    shelf, root = place.shelf, chain[-1]
    name = file_name("root", root.version)
    try:
        shelf.put_metadata(name, root.data)
    except (FetchError, StorageError) as why:
        if not is_no_root(place, root, why):
            raise
        shelf.restore_metadata(name, root.data)
    except ConflictError as why:
        found = read_roots(Until(shelf, root.version), chain[-2].data)
        if found.newest.version >= root.version:
            raise ConflictError(
                f"{place.url} has another root v{root.version}",
                hint="somebody else's ceremony was faster: propose the next root from "
                "what stands now (`root propose`)",
            ) from why
        # Devices stop at what is no root: somebody who may write there put it in place.
        shelf.restore_metadata(name, root.data)


def follow(start: Beginning) -> list[str]:
    """Let the author's memory follow; what is written is written, whatever it says."""
    if start.store is None:
        return []
    try:
        state = start.load()
        files = {
            role: data for role, data in state.walk.accepted.items() if role != "root"
        }
        start.store.keep(state.before, state.walk.workflow.complete(), files, {})
    except SupplyChainError as why:
        return [f"the root is published, the author's memory does not follow: {why}"]
    return []


def of_root(root: RoleFile[Root]) -> dict[str, tuple[int, datetime]]:
    """Return what to say of a root that was written; see `Written.roles`."""
    return {"root": (root.version, root.expires)}
