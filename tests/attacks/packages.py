"""Archives and Margo packages, honest and hostile, for a `World` to list."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import TYPE_CHECKING, Any

from margo_supplychain.formats import oci
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.formats.record import Component

if TYPE_CHECKING:
    from collections.abc import Sequence

    from margo_supplychain.formats.digests import Descriptor, Digest
    from tests.world import World

COMPOSE = b"services: {web: {image: registry.example/acme/web:1}}\n"
CHART = b"apiVersion: v2\nname: web\nversion: 1.0.0\n"
GENERIC = "application/vnd.example.generic.v1+json"
DESCRIPTION = b"""\
apiVersion: v1
id: pump-monitor
metadata:
  name: Pump Monitor
  version: "2.0"
  catalog:
    organization: [{name: Acme}]
deploymentProfiles:
  - type: compose
    id: compose
    components:
      - name: web
        properties:
          repository: oci://registry.example/acme/web
          revision: 2.0.0
"""


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, **fields: Any
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def packed(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """Return a tar.gz of members in this order."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(target.getvalue(), compresslevel=6)


def manifest(world: World, data: bytes) -> Descriptor:
    return world.add_blob(data, oci.MANIFEST)


def artifact(
    world: World,
    layers: Sequence[tuple[str, str | None, bytes]],
    *,
    kind: str | None = GENERIC,
    config: str = oci.EMPTY_TYPE,
) -> Descriptor:
    """Serve an artifact of layers (media type, title, bytes)."""
    made = manifest_bytes(
        artifact_type=kind,
        config=world.add_blob(b"{}", config),
        layers=[
            Layer(descriptor=world.add_blob(data, media_type), title=title)
            for media_type, title, data in layers
        ],
    )
    return manifest(world, made)


def compose(
    world: World, archive: bytes, *, layer: str = oci.COMPOSE_LAYER
) -> Descriptor:
    return artifact(world, [(layer, None, archive)], kind=oci.COMPOSE_COMPONENT)


def chart(world: World, archive: bytes) -> Descriptor:
    return artifact(
        world, [(oci.HELM_LAYER, None, archive)], kind=None, config=oci.HELM_CONFIG
    )


def component(
    content: Descriptor, name: str = "web", kind: str = "compose"
) -> Component:
    return Component(
        name=name,
        profile="compose",
        profile_type=kind,
        repository=f"oci://registry.example/acme/{name}",
        revision="2.0.0",
        content=content,
    )


def package(
    world: World,
    description: bytes | None = DESCRIPTION,
    *,
    components: Sequence[Component] | None = None,
    version: str = "2.0.0",
    application_version: str | None = "2.0",
    name: str = "acme/pump-monitor",
    extra: Sequence[tuple[str, str | None, bytes]] = (),
    closure: str = "complete",
) -> Digest:
    """List a Margo package with one Compose component."""
    if components is None:
        good = packed(member("web/compose.yaml", COMPOSE))
        components = [component(compose(world, good))]
    layers: list[tuple[str, str | None, bytes]] = [
        ("application/vnd.margo.app.icon.v1+png", "resources/icon.png", b"icon")
    ]
    if description is not None:
        layers.append((oci.MARGO_DESCRIPTION, "margo.yaml", description))
    layers.extend(extra)
    return world.release(
        version,
        name,
        artifact=artifact(world, layers, kind=oci.MARGO_APPLICATION),
        kind=oci.MARGO_APPLICATION,
        components=tuple(components),
        application_version=application_version,
        closure=closure,
    )


def name_of(text: str = "acme/pump-monitor") -> ReleaseName:
    return ReleaseName.parse(text)
