"""What the release step of a layout must have made, under names that never change.

A layout's release step is the one whose expected products hold `REQUIRE
release/manifest`. Its links name the release by the digests of its OCI manifests: the
artifact's own and each component's; and by what its record says of it, for a version,
and the images that components name, are in no manifest (docs/adr/0022-provenance.md).

Example:
    >>> component_product("helm/v3", "web")
    'release/components/helm%2Fv3/web'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from margo_supplychain.formats.digests import Digest
    from margo_supplychain.formats.record import ReleaseRecord

MANIFEST_PRODUCT: Final = "release/manifest"
RECORD_PRODUCT: Final = "release/record"
COMPONENTS: Final = "release/components/"
DIRTY: Final = "git/dirty"
"""A material that says: the working tree held something else than its commit."""


def component_product(profile: str, name: str) -> str:
    """Return the product that is one component's manifest or index.

    Args:
        profile: id of the deployment profile.
        name: of the component, as in margo.yaml.
    """
    return f"{COMPONENTS}{_quoted(profile)}/{_quoted(name)}"


def release_products(record: ReleaseRecord) -> dict[str, Digest]:
    """Return the digest of every product that proves a release, by product name."""
    found = {
        component_product(one.profile, one.name): one.content.digest
        for one in record.components
    }
    return {
        MANIFEST_PRODUCT: record.artifact.digest,
        RECORD_PRODUCT: record.release,
    } | found


def _quoted(text: str) -> str:
    # `quote` leaves dots alone, and a step of nothing but dots is no name.
    encoded = quote(text, safe="")
    return encoded.replace(".", "%2E") if encoded in (".", "..") else encoded
