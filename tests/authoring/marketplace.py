"""A repository of two publishers, its operator, and a device, for tests of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from margo_supplychain.authoring.publish import publish
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from tests.authoring.trust import OPEN, PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from securesystemslib.signer import Key, Signer

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.verify.trust_store import TrustStore
    from margo_supplychain.verify.verifier import Verifier

ANY: Final = Pin.range("*", grammar="npm")
TORQUE: Final = ReleaseName.parse("bolt/torque")


def public(name: str) -> Key:
    """Return the public key that a test calls `name`."""
    return key(name).public_key


class Marketplace:
    """The publishers `acme` and `bolt`, and a device that runs acme's pump 1.0.0.

    The operator's keys are `offline` and `ci`, each publisher's is called like it, and
    each application's like it with `-ci`.
    """

    def __init__(self, directory: Path) -> None:
        self.vendor = Vendor(directory, profile="standard")
        self.vendor.create()
        for name in (PUMP, TORQUE):
            self._begin(name)
        self.store = self.vendor.store("device")
        self.install("1.0.0")

    def _begin(self, name: ReleaseName) -> None:
        def begin(edit: Edit) -> None:
            publisher = name.publisher
            edit.add_publisher(publisher, [public(publisher)], threshold=1)
            edit.add_application(name, [public(f"{name.name}-ci")], policy=OPEN)

        self.edit(begin, name.publisher)
        self.publish("1.0.0", name)

    @property
    def operator(self) -> list[Signer]:
        """The operator's keys."""
        return [*self.vendor.keys]

    def edit(self, change: Callable[[Edit], object], *names: str) -> Edit:
        """Make one change with the operator's keys and some more."""
        keys = [*self.operator, *map(key, names)]
        with self.vendor.repository.edit(keys, clock=self.vendor.clock) as edit:
            change(edit)
        return edit

    def changes(self, change: Callable[[Edit], bool], *names: str) -> bool:
        """Make one change; say whether it was one."""
        said: list[bool] = []
        self.edit(lambda edit: said.append(change(edit)), *names)
        return said[0]

    def publish(
        self, version: str, name: ReleaseName = PUMP, ci: str | None = None
    ) -> None:
        """Publish a release with the application's key, or another one."""
        release = self.vendor.release(version, name=name)
        keys = [key("ci"), key(ci or f"{name.name}-ci")]
        publish(self.vendor.repository, [release], keys=keys, clock=self.vendor.clock)

    # --- the device ------------------------------------------------------------------

    def device(self, *, fresh: bool = False) -> Verifier:
        """Return the device, or one that knows the first root alone."""
        store: TrustStore | None = None if fresh else self.store
        return self.vendor.device(store)

    def newest(self, name: ReleaseName = PUMP) -> str:
        """Return what a device would install, whatever it remembers of before."""
        found = {
            str(self.device(fresh=fresh).verify(name, ANY).version)
            # The device's memory is of acme's alone.
            for fresh in ((True,) if name.publisher != "acme" else (True, False))
        }
        assert len(found) == 1
        return found.pop()

    def install(self, version: str) -> None:
        """Let the device fetch the newest pump, and run it."""
        device = self.device()
        release = device.verify(PUMP, ANY)
        assert str(release.version) == version
        device.fetch(release, self.vendor.directory / "fetched")
        device.confirm_running(release.manifest.digest)
        self.runs = release.manifest.digest

    def may_run(self) -> bool:
        """Say whether what the device runs may keep running."""
        return self.device().check_installed(self.runs).verdict == "verified"

    def problems(self) -> list[str]:
        """Return what `repo check` finds."""
        report = self.vendor.repository.check(clock=self.vendor.clock)
        return [one.text for one in report.violations]
