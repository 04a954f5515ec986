"""The author's half: repositories, releases, publishing. Never on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.authoring.copying import Copied, copy_releases
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.housekeeping import Pruned, prune
    from margo_supplychain.authoring.plan import RootPlan
    from margo_supplychain.authoring.publish import Published, publish
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.repository import Repository
    from margo_supplychain.authoring.selection import Selection
    from margo_supplychain.authoring.shelves import open_shelf

__all__ = [
    "Copied",
    "Edit",
    "Pruned",
    "Published",
    "Release",
    "Repository",
    "RootPlan",
    "Selection",
    "copy_releases",
    "open_shelf",
    "prune",
    "publish",
]

__getattr__ = exporter(
    __name__,
    {
        "copying": ("Copied", "copy_releases"),
        "edit": ("Edit",),
        "housekeeping": ("Pruned", "prune"),
        "plan": ("RootPlan",),
        "publish": ("Published", "publish"),
        "release": ("Release",),
        "repository": ("Repository",),
        "selection": ("Selection",),
        "shelves": ("open_shelf",),
    },
)
