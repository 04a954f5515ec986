"""An operator and vendors who have keys of their own, for the tests of `accept`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from margo_supplychain.authoring.inbox import DirectoryInbox
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from tests.authoring.trust import OPEN, Vendor, key

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.authoring.edit import Edit

PUMP = ReleaseName.parse("acme/pump")
FAN = ReleaseName.parse("acme/fan")
LAMP = ReleaseName.parse("globex/lamp")


@dataclass
class Market(Vendor):
    """A repository of the profile standard, its inbox and its vendors acme and globex.

    Keys: `offline` and `ci` of the operator; of a vendor `acme` offline, and `acme-ci`
    for all his applications.
    """

    profile: str = "standard"

    @property
    def inbox(self) -> DirectoryInbox:
        return DirectoryInbox(self.directory / "inbox")

    def open_market(self) -> None:
        """Make the repository; acme has pump 1.0.0 and fan, globex has lamp 1.0.0."""
        self.create()
        self.inbox.directory.mkdir()
        keys = [*self.keys, *map(key, ("acme", "acme-ci", "globex", "globex-ci"))]
        with self.repository.edit(keys, clock=self.clock) as edit:
            for vendor in ("acme", "globex"):
                edit.add_publisher(vendor, [key(vendor).public_key], threshold=1)
            for name in (PUMP, FAN, LAMP):
                ci = key(f"{name.publisher}-ci").public_key
                edit.add_application(name, [ci], policy=OPEN)
            for name in (PUMP, FAN, LAMP):
                edit.add_release(self.release("1.0.0", name=name))

    def view(self) -> Repository:
        """Return the operator's repository as vendors see it."""
        return Repository.view(self.trust, root=self.repository.root)

    def submit(self, *signers: str, **options: Any) -> AbstractContextManager[Edit]:
        """Begin what a vendor hands in."""
        options.setdefault("inbox", self.inbox)
        options.setdefault("clock", self.clock)
        return self.view().submit([key(one) for one in signers], **options)

    def hand_in(self, version: str, name: ReleaseName = PUMP) -> str:
        """Hand in a release; return the submission's name."""
        with self.submit(f"{name.publisher}-ci") as edit:
            edit.add_release(self.release(version, name=name))
        return self.newest_in_inbox()

    def newest_in_inbox(self) -> str:
        """Return the name of what was handed in last."""
        found = max(
            self.inbox.directory.iterdir(), key=lambda path: path.stat().st_mtime_ns
        )
        return found.stem

    def accept(self, **options: Any) -> Accepted:
        """Let the operator accept, with the online key alone."""
        options.setdefault("clock", self.clock)
        return self.repository.accept(self.inbox, [key("ci")], **options)

    def newest(self, name: ReleaseName = PUMP) -> str:
        """Return what a fresh device would install."""
        found = self.device().verify(name, Pin.range("*", grammar="npm"))
        return str(found.version)
