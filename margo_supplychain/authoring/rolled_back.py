"""A targets that lies there, newer than the one that is listed.

Who has the keys of snapshot and timestamp can list an older one: with keys of
publishers that left since. Devices that saw the newer one refuse that; what is signed
anew from it, with a version above both, they would take. So a root is not handed on
from there, and nothing is drafted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.evidence import require_who
from margo_supplychain.authoring.lying import Lying
from margo_supplychain.authoring.signatures import signed_by
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.tuf_metadata import file_name

if TYPE_CHECKING:
    from tuf.api.metadata import Root, Targets

    from margo_supplychain.authoring.healing import Beginning
    from margo_supplychain.formats.tuf_metadata import RoleFile


def newer_targets(
    start: Beginning, root: Root, standing: RoleFile[Targets]
) -> RoleFile[Targets] | None:
    """Return the newest targets that lies there and says something else.

    Args:
        start: what is at hand.
        root: whose keys count.
        standing: the one to go on from; older ones don't count.

    Raises:
        FetchError: the place does not answer.
    """
    lying, who = Lying(start), require_who(root, "targets")
    for version in lying.versions("targets"):
        if version <= standing.version:
            return None
        data = lying.read(file_name("targets", version), LIMITS.targets)
        found = None if data is None else signed_by(data, who)
        if found is None or found.version != version:
            continue
        return found if _said(found) != _said(standing) else None
    return None


def taken_back(standing: RoleFile[Targets], newer: RoleFile[Targets]) -> RefusedError:
    """Return the error that tells people about both."""
    return RefusedError(
        f"{newer.label} lies there, signed by its keys, and says something else than "
        f"{standing.label}, which is listed",
        hint="if it was published, who has the keys of snapshot and timestamp took it "
        "back: propose a root that gives these roles other keys, and leave the old "
        "ones out. If a run was killed or somebody was faster, run that edit again, or "
        "take the file away. Nothing was changed",
    )


def _said(file: RoleFile[Targets]) -> dict[str, Any]:
    parsed = strict_json.parse(file.data, what=file.role, limit=LIMITS.targets)
    signed: dict[str, Any] = parsed["signed"]
    return {
        name: value
        for name, value in signed.items()
        if name not in {"version", "expires"}
    }
