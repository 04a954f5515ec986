"""The author's half: repositories, releases, publishing. Never on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.authoring.copying import Copied, copy_releases
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.holders import Holder
    from margo_supplychain.authoring.housekeeping import Pruned, prune
    from margo_supplychain.authoring.inbox import Inbox, open_inbox
    from margo_supplychain.authoring.plan import RoleKeys, RootPlan
    from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
    from margo_supplychain.authoring.publish import Published, publish
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.authoring.shelves import open_shelf
    from margo_supplychain.authoring.targets_draft import TargetsDraft

__all__ = [
    "Accepted",
    "Copied",
    "Edit",
    "Holder",
    "Inbox",
    "Pruned",
    "Published",
    "Release",
    "Repository",
    "RoleKeys",
    "RootPlan",
    "RootProposal",
    "Selection",
    "SignedRoot",
    "TargetsDraft",
    "copy_releases",
    "open_inbox",
    "open_shelf",
    "prune",
    "publish",
]

__getattr__ = exporter(
    __name__,
    {
        "accepted": ("Accepted",),
        "copying": ("Copied", "copy_releases"),
        "edit": ("Edit",),
        "holders": ("Holder",),
        "housekeeping": ("Pruned", "prune"),
        "inbox": ("Inbox", "open_inbox"),
        "plan": ("RoleKeys", "RootPlan"),
        "proposals": ("RootProposal", "SignedRoot"),
        "publish": ("Published", "publish"),
        "release": ("Release",),
        "repository": ("Repository",),
        "selection": ("Selection",),
        "shelves": ("open_shelf",),
        "targets_draft": ("TargetsDraft",),
    },
)
