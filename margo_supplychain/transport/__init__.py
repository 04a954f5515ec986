"""Moves untrusted bytes within limits, and decides nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from margo_supplychain.lazy import exporter

if TYPE_CHECKING:
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
    "Network",
    "RegistryAccess",
    "Shelf",
    "Sink",
    "Source",
    "open_sink",
    "open_source",
]

__getattr__ = exporter(
    __name__,
    {
        "network": ("Network", "RegistryAccess"),
        "opening": ("FixedContent", "open_sink", "open_source"),
        "protocols": ("ContentSources", "Shelf", "Sink", "Source"),
    },
)
