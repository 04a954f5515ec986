"""A device whose only source is a registry, and the repository that is in there.

The registry is filled by hand, not by this package's own push, so that what the device
reads is what the format says and not what we happen to write.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.transport.network import Network
from margo_supplychain.transport.opening import FixedContent, open_source
from margo_supplychain.verify.policy import Policy
from margo_supplychain.verify.trust_store import TrustStore
from margo_supplychain.verify.verifier import Verifier
from tests.registries.hostile import IMAGE, INDEX, Holdings, digest_of
from tests.world import Device, FixedClock, World

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.transport.protocols import Source
    from tests.registries.hostile import HostileRegistry
    from tests.world import Files

TRUST: Final = "acme/trust"
CONTENT: Final = "acme/pump-monitor"
METADATA: Final = "application/vnd.tuf.metadata+json"
TARGET: Final = "application/vnd.tuf.target"
EMPTY_TYPE: Final = "application/vnd.oci.empty.v1+json"
INLINE: Final = 32 << 10

# No pauses between tries, and short patience.
QUICK: Final[dict[str, Any]] = {
    "connect_timeout": 5,
    "read_timeout": 0.3,
    "response_timeout": 2,
    "rate_window": 0.5,
    "tries": 3,
    "longest_delay": 0,
}


def quick(**options: Any) -> Network:
    """Return limits that a test can wait for."""
    return Network(**{**QUICK, **options})


def wrap(held: Holdings, tag: str, data: bytes, kind: str, *, inline: bool) -> None:
    """Put one file into a registry as architecture §3 has it."""
    layer: dict[str, Any] = {
        "mediaType": kind,
        "digest": held.add_blob(data),
        "size": len(data),
    }
    if inline and len(data) <= INLINE:
        layer["data"] = base64.b64encode(data).decode()
    config = {"mediaType": EMPTY_TYPE, "digest": held.add_blob(b"{}"), "size": 2}
    manifest = {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "artifactType": kind,
        "config": config,
        "layers": [layer],
    }
    held.add_manifest(json.dumps(manifest).encode(), tag=tag)


def put_trust(held: Holdings, files: Files, *, inline: bool = True) -> None:
    """Put what a web server would serve of a trust repository into a registry."""
    for name, data in files.metadata.items():
        wrap(held, name.removesuffix(".json"), data, METADATA, inline=inline)
    for (_, sha256), data in files.targets.items():
        wrap(held, f"t.{sha256}", data, TARGET, inline=inline)


def put_content(held: Holdings, files: Files) -> None:
    """Put all content into one repository, manifests as manifests."""
    for data in files.blobs.values():
        kind = media_type_of(data)
        if kind is not None:
            held.add_manifest(data, tag=None, kind=kind)
        else:
            held.add_blob(data)


def media_type_of(data: bytes) -> str | None:
    """Return the media type of a manifest or index; None for anything else."""
    try:
        found = json.loads(data)
    except ValueError:
        return None
    kind = found.get("mediaType") if isinstance(found, dict) else None
    return kind if kind in (IMAGE, INDEX) else None


class RegistryDevice(Device):
    """A device that asks oci:// URLs alone.

    Args:
        trust, content: the URLs.
        network: its limits and what it knows of registries.
    """

    def __init__(
        self,
        state: Path,
        files: Files,
        clock: FixedClock,
        *,
        trust: str,
        content: tuple[str, ...],
        network: Network,
    ) -> None:
        super().__init__(state, files, clock)
        self.trust = trust
        self.content = content
        self.network = network

    def opened(self, url: str) -> Source:
        """Return a source, as after a restart."""
        return open_source(url, network=self.network)

    @property
    def verifier(self) -> Verifier:
        """A new verifier over the state on disk, as after a restart."""
        return Verifier(
            store=TrustStore.open(self.state),
            source=self.opened(self.trust),
            content=FixedContent([self.opened(url) for url in self.content]),
            policy=Policy.from_toml(self.policy),
            clock=self.clock,
            limits=self.limits,
        )


@dataclass(frozen=True, slots=True)
class Plant:
    """A vendor's registry, and a device that runs 1.1.0 from it.

    Args:
        old: what was served when 1.0.0 was current.
    """

    world: World
    device: RegistryDevice
    registry: HostileRegistry
    old: Files

    def serve(self, files: Files | None = None, *, inline: bool = True) -> None:
        """Let the registry hold what the repository (or Mallory) has now."""
        put_trust(self.registry.of(TRUST), files or self.world.files, inline=inline)
        put_content(self.registry.of(CONTENT), files or self.world.files)

    def release(self, version: str, *, inline: bool = True, **options: Any) -> None:
        """Publish one more release."""
        self.world.release(version, **options)
        self.world.publish()
        self.serve(inline=inline)


def plant_on(
    registry: HostileRegistry,
    tmp_path: Path,
    *,
    inline: bool = True,
    network: Network | None = None,
    install: bool = True,
) -> Plant:
    """Return a plant in its legitimate state, checked: it runs 1.1.0.

    Args:
        inline: small metadata stands in the manifests as well.
        install: or else the device is new, and runs nothing.
    """
    world = World()
    world.release("1.0.0")
    old = world.publish()
    device = RegistryDevice(
        tmp_path / "device",
        old,
        FixedClock(world.clock.when),
        trust=f"oci://{registry.host}/{TRUST}",
        content=(f"oci://{registry.host}/{CONTENT}",),
        network=network or quick(),
    )
    plant = Plant(world, device, registry, old)
    plant.serve(inline=inline)
    if install:
        assert device.install() == "1.0.0"
    plant.release("1.1.0", inline=inline)
    if install:
        assert device.install() == "1.1.0"
    registry.seen.clear()
    registry.sent = 0
    return plant


def manifest_digest(world: World) -> str:
    """Return the digest of the newest manifest in the world."""
    return [
        digest_of(data)
        for data in world.files.blobs.values()
        if media_type_of(data) is not None
    ][-1]
