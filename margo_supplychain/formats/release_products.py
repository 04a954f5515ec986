"""What the release step of a layout must have made, under names that never change.

A layout's release step is the one whose expected products hold `REQUIRE
release/manifest`. Its links name the release by the digests of its OCI manifests: the
artifact's own and each component's (docs/adr/0022-provenance.md).

Example:
    >>> component_product("helm/v3", "web")
    'release/components/helm%2Fv3/web'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterable

    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.release_parts import Component

MANIFEST_PRODUCT: Final = "release/manifest"
COMPONENTS: Final = "release/components/"


def component_product(profile: str, name: str) -> str:
    """Return the product that is one component's manifest or index.

    Args:
        profile: id of the deployment profile.
        name: of the component, as in margo.yaml.
    """
    return f"{COMPONENTS}{_quoted(profile)}/{_quoted(name)}"


def release_products(
    artifact: Digest, components: Iterable[Component]
) -> dict[str, Digest]:
    """Return the digest of every product that proves a release, by product name."""
    found = {
        component_product(one.profile, one.name): one.content.digest
        for one in components
    }
    return {MANIFEST_PRODUCT: artifact} | found


def _quoted(text: str) -> str:
    # `quote` leaves dots alone, and a step of nothing but dots is no name.
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if encoded in (".", "..") else encoded
