"""Copies of repositories of every kind, and devices that read them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from margo_supplychain.authoring.copying import Copied, copy_releases
from margo_supplychain.authoring.selection import EVERYTHING, Selection
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.transport.directory import DirectorySource
from margo_supplychain.transport.mirrors import MirroredContent, MirrorMap
from margo_supplychain.transport.opening import FixedContent, open_sink, open_source
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.authoring.trust import DEVICE_POLICY, OPEN, VALVE, Vendor, key

if TYPE_CHECKING:
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName
    from tests.registries.servers import DockerRegistry

KINDS = ("directory", "oci-layout", "oci-archive", "oci")


def fill(vendor: Vendor) -> Vendor:
    """Publish pump-monitor, which names its repository, and valve, which does not."""
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
        edit.add_release(vendor.release("1.0.0", name=VALVE))
        for version in ("1.0.0", "1.1.0"):
            edit.add_release(located(vendor.release(version)))
    return vendor


def located(release: Release) -> Release:
    at = f"oci://registry.example/acme/{release.name.name}"
    return replace(release, locations=(at,))


def place(kind: str, vendor: Vendor, name: str, registry: DockerRegistry) -> str:
    path = vendor.directory / name
    if kind == "oci":
        # A path of this test's own: the registry serves all of them.
        return f"oci://{registry.host}/{vendor.directory.name}/{name}/trust".lower()
    return str(path) if kind == "directory" else f"{kind}:{path}"


def copy(
    vendor: Vendor,
    source: str,
    target: str,
    registry: DockerRegistry,
    *,
    mirrors: MirrorMap | None = None,
    select: Selection = EVERYTHING,
) -> Copied:
    network = registry.network()
    mirrors = mirrors or MirrorMap({})
    with open_shelf(target, network=network) as shelf:
        return copy_releases(
            open_source(source, network=network),
            shelf,
            trust=TrustStore.unsafe_without_memory(root=vendor.repository.root),
            content=MirroredContent(mirrors, network=network),
            select=select,
            open_repository=lambda url: open_sink(url, network=network),
            mirrored=mirrors.places,
            clock=vendor.clock,
        )


def home(at: str, name: ReleaseName) -> str:
    return f"{at.rpartition('/')[0]}/{name.name}"


def device(
    vendor: Vendor, store: TrustStore | None = None, at: str = "mirror"
) -> Verifier:
    source = DirectorySource(vendor.directory / at)
    return Verifier(
        store=store or TrustStore.unsafe_without_memory(root=vendor.repository.root),
        source=source,
        content=FixedContent([source]),
        policy=DEVICE_POLICY,
        clock=vendor.clock,
    )
