"""Parsed values: what bytes and texts say, without I/O and without trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.formats.digests import Descriptor, Digest
    from margo_supplychain.formats.names import ReleaseName, TargetPath
    from margo_supplychain.formats.pins import Pin
    from margo_supplychain.formats.publisher_policy import PublisherPolicy
    from margo_supplychain.formats.record import ReleaseRecord
    from margo_supplychain.formats.reports import Report, Violation
    from margo_supplychain.formats.versions import Version

__all__ = [
    "Descriptor",
    "Digest",
    "Pin",
    "PublisherPolicy",
    "ReleaseName",
    "ReleaseRecord",
    "Report",
    "TargetPath",
    "Version",
    "Violation",
]

__getattr__ = exporter(
    __name__,
    {
        "digests": ("Descriptor", "Digest"),
        "names": ("ReleaseName", "TargetPath"),
        "pins": ("Pin",),
        "publisher_policy": ("PublisherPolicy",),
        "record": ("ReleaseRecord",),
        "reports": ("Report", "Violation"),
        "versions": ("Version",),
    },
)
