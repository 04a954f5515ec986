"""The author's half: repositories, releases, publishing. Never on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.plan import RootPlan
    from margo_supplychain.authoring.publish import Published, publish
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.authoring.repository import Repository

__all__ = [
    "Edit",
    "Published",
    "Release",
    "Repository",
    "RootPlan",
    "publish",
]

__getattr__ = exporter(
    __name__,
    {
        "edit": ("Edit",),
        "plan": ("RootPlan",),
        "publish": ("Published", "publish"),
        "release": ("Release",),
        "repository": ("Repository",),
    },
)
