"""Moves untrusted bytes within limits, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
    from margo_supplychain.transport.mirrors import (
        MirroredContent,
        MirrorMap,
        open_mirrored_source,
    )
    from margo_supplychain.transport.network import Network, RegistryAccess
    from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
    from margo_supplychain.transport.protocols import (
        ContentSources,
        Shelf,
        Sink,
        Source,
    )

__all__ = [
    "ContentSources",
    "FixedContent",
    "MirrorMap",
    "MirroredContent",
    "Network",
    "RegistryAccess",
    "Shelf",
    "Sink",
    "Source",
    "open_mirrored_source",
    "open_sink",
    "open_source",
]

__getattr__ = exporter(
    __name__,
    {
        "mirrors": ("MirrorMap", "MirroredContent", "open_mirrored_source"),
        "network": ("Network", "RegistryAccess"),
        "opening": ("FixedContent", "open_sink", "open_source"),
        "protocols": ("ContentSources", "Shelf", "Sink", "Source"),
    },
)
