"""A vendor's repository on disk and a device beside it, as the command line sees them.

The command line reads the machine's clock, so this world is three hours old.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.formats import oci
from margo_supplychain.formats.oci import Layer, manifest_bytes
from margo_supplychain.formats.record import Component
from tests.cli.running import Ran, run
from tests.world.on_disk import write_files
from tests.world.repository import World

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.formats.digests import Descriptor

AGE: Final = timedelta(hours=3, minutes=20)
APPLICATION: Final = "acme/pump-monitor"


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class Plant:
    """`trust/` is what acme publishes, `device/` what the device keeps."""

    def __init__(self, place: Path, *, age: timedelta = AGE, **world: Any) -> None:
        self.place = place
        self.world = World(now=now() - age, **world)
        self.trust = place / "trust"
        self.state = place / "device"

    def publish(self, *versions: str, **options: Any) -> None:
        """List releases and serve the repository as it stands."""
        for version in versions:
            self.world.release(version, APPLICATION)
        write_files(self.world.publish(**options), self.trust)

    def init(self, *more: str) -> Ran:
        """Trust the repository."""
        root = self.trust / "metadata" / "1.root.json"
        given = ["--root", str(root), "--publisher", "acme", "--state", "device"]
        return run("device", "init", *given, *more)

    def run(self, command: str, *arguments: str, json: bool = False) -> Ran:
        """Run a device command on this device."""
        form = ["--format", "json"] if json else []
        return run(*form, "device", command, *arguments, "--state", "device")

    def verify(self, pin: str = "^1.0", *more: str, json: bool = False) -> Ran:
        return self.run("verify", APPLICATION, "--pin", pin, *more, json=json)

    def fetch(self, pin: str = "^1.0", *more: str, json: bool = False) -> Ran:
        given = [APPLICATION, "--pin", pin, "--to", "staging"]
        return self.run("fetch", *given, *more, json=json)

    def edit(self, old: str, new: str) -> None:
        """Change the owner's file."""
        path = self.state / "device.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def memory(self) -> dict[str, bytes]:
        """What the device remembers, to the byte."""
        return {
            str(one.relative_to(self.state)): one.read_bytes()
            for one in sorted(self.state.rglob("memory-*"))
        }

    def component(self, name: str, kind: str, data: bytes) -> Component:
        """Serve a component's OCI artifact: a chart or a Compose archive."""
        helm = kind == "helm"
        layer = self.world.add_blob(data, oci.HELM_LAYER if helm else oci.COMPOSE_LAYER)
        manifest = manifest_bytes(
            artifact_type=oci.HELM_CONFIG if helm else oci.COMPOSE_COMPONENT,
            layers=[Layer(descriptor=layer, title=f"{name}.tgz")],
        )
        self.world.add_blob(b"{}", oci.EMPTY_TYPE)
        what: Descriptor = self.world.add_blob(manifest, oci.MANIFEST)
        return Component(
            name=name,
            profile=f"{kind}-profile",
            profile_type=kind,
            repository=f"oci://registry.example/acme/{name}",
            revision="1.0.0",
            content=what,
        )
