"""A hardened client of OCI registries, which are all taken to be hostile.

Imported when an oci:// URL is opened: it loads oras-py, and with it requests.
"""

from __future__ import annotations

from margo_supplychain.transport.oci_registry.client import (
    RegistryClient,
    registry_client,
)
from margo_supplychain.transport.oci_registry.repository import RegistryRepository

__all__ = ["RegistryClient", "RegistryRepository", "registry_client"]
