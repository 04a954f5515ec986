"""The targets that goes with a root travels from hand to hand, and Mallory carries it.

Two of three hold the new keys of targets; the machine that finalizes has online keys
alone. What it refuses, no device ever sees; and what it should have had goes through.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from margo_supplychain.authoring.targets_draft import TargetsDraft
from margo_supplychain.errors import (
    IncompleteError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.formats import canonical_json, strict_json
from margo_supplychain.formats.pins import Pin
from tests.authoring.ceremony import keys_of
from tests.authoring.trust import PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.proposals import RootProposal
    from margo_supplychain.errors import SupplyChainError
    from margo_supplychain.verify.trust_store import TrustStore

ANY: Final = Pin.range("*", grammar="npm")
NEW: Final = keys_of("tina", "tom", "tove", threshold=2)


@dataclass(frozen=True, slots=True)
class Scene:
    """A repository in its legitimate state, a device on it, and a signed root."""

    vendor: Vendor
    device: TrustStore
    proposal: RootProposal

    @classmethod
    def set_up(cls, directory: Path) -> Scene:
        """Make it; the device has confirmed what is published."""
        vendor = Vendor(directory)
        vendor.create_with_pump()
        vendor.publish("1.0.0")
        device = vendor.store("device/state")
        assert str(vendor.device(device).verify(PUMP, ANY).version) == "1.0.0"
        vendor.clock.advance(hours=1)
        return cls(vendor, device, proposed(vendor, targets=NEW))

    def draft(self, *names: str) -> TargetsDraft:
        """Return the honest draft, signed by these."""
        found = self.vendor.repository.draft_targets(
            self.proposal, clock=self.vendor.clock
        )
        for name in names:
            found = found.sign(key(name))
        return found

    def parse(self, data: bytes) -> TargetsDraft:
        """Return a draft as a holder reads it."""
        draft = self.draft()
        return TargetsDraft.parse(data, trusted=draft.trusted, proposed=draft.proposed)

    def finalize(self, data: bytes) -> None:
        """Run `root finalize` with online keys alone."""
        self.vendor.repository.adopt_root(
            self.proposal.finalize(),
            [key("ci")],
            targets=data,
            clock=self.vendor.clock,
        )

    def refuses(self, data: bytes, kind: type[SupplyChainError], match: str) -> None:
        """Expect that nothing is written, and that the device stays where it is."""
        files, status = self.vendor.files(), self.device.status()
        with pytest.raises(kind, match=match):
            self.finalize(data)
        assert self.vendor.files() == files
        self.vendor.device(self.device).refresh()
        assert self.device.status().root == status.root == 1

    def goes_through(self) -> None:
        """Finalize the honest draft; the device follows without a gap."""
        self.finalize(self.draft("tina", "tove", "offline").data)
        assert str(self.vendor.device(self.device).verify(PUMP, ANY).version) == "1.0.0"
        assert self.device.status().root == 2
        report = self.vendor.repository.check(clock=self.vendor.clock)
        assert report.violations == ()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene.set_up(tmp_path)


def proposed(vendor: Vendor, **changes: Any) -> RootProposal:
    plan = replace(vendor.repository.plan(clock=vendor.clock), **changes)
    proposal = vendor.repository.propose_root(plan, clock=vendor.clock)
    return proposal.sign(key("offline"))


def edited(data: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    value: dict[str, Any] = json.loads(data)
    change(value["signed"])
    return strict_json.canonical(value)


def signed(data: bytes, *names: str) -> bytes:
    """Return a file with the signatures of these, whatever it says."""
    value: dict[str, Any] = json.loads(data)
    payload = canonical_json.encode(value["signed"])
    value["signatures"] = [key(name).sign(payload).to_dict() for name in names]
    return strict_json.canonical(value)


def steal_acme(said: dict[str, Any]) -> None:
    """Give acme to Mallory: its role gets her key in place of its own."""
    mallory = key("mallory").public_key
    delegations = said["delegations"]
    delegations["keys"] = {mallory.keyid: mallory.to_dict()}
    delegations["roles"][0]["keyids"] = [mallory.keyid]


def test_draft_for_another_root(scene: Scene) -> None:
    """Mallory brings a draft that other people signed for another proposal."""
    other = replace(
        scene, proposal=proposed(scene.vendor, targets=keys_of("mallory", "mike"))
    )
    brought = other.draft("mallory", "mike")
    assert brought.new.met
    scene.refuses(brought.data, RefusedError, "is no key of targets in root v1 or")
    # Signed by the old keys too it is not enough, since those leave.
    scene.refuses(signed(brought.data, "offline"), IncompleteError, "needs 2 more of")
    scene.goes_through()


def test_one_key_less_than_the_new_threshold(scene: Scene) -> None:
    """Tina alone; and Tina with her key twice, or with that of a key that leaves."""
    scene.refuses(scene.draft("tina").data, IncompleteError, "needs 1 more of")
    scene.refuses(
        scene.draft("tina", "offline").data, IncompleteError, "needs 1 more of"
    )
    value = json.loads(scene.draft("tina").data)
    value["signatures"] *= 2
    twice = strict_json.canonical(value)
    scene.refuses(twice, MetadataFormatError, "Multiple signatures found for keyid")
    scene.goes_through()


def test_draft_swapped_after_signing(scene: Scene) -> None:
    """Tina and Tove signed; on its way to the office the file becomes another one,
    with their signatures still in it."""
    honest = scene.draft("tina", "tove", "offline")
    for change in (
        steal_acme,
        lambda said: said.update(version=said["version"] + 1),
        lambda said: said.update(expires="2036-01-01T00:00:00Z"),
    ):
        carried = edited(honest.data, change)
        scene.refuses(carried, RefusedError, "does not verify: it covers something")
        with pytest.raises(RefusedError, match="these are two drafts"):
            honest.merge(scene.parse(signed(carried)))
    scene.goes_through()


@pytest.mark.parametrize("also", [("offline",), ()])
def test_publisher_that_changes_on_the_way(scene: Scene, also: tuple[str, ...]) -> None:
    """Mallory drafts it herself, and acme is hers in it. The holders of the new keys
    have no repository to compare it with, and sign what she says is a formality."""
    swapped = edited(scene.draft().data, steal_acme)
    shown = scene.parse(swapped)
    standing = scene.draft().file
    assert shown.changes(standing) == ("publisher acme",)
    # The whole key ids are on the screen of whoever signs.
    assert [list(one.keys) for one in shown.publishers()] == [
        [key("mallory").public_key.keyid]
    ]
    scene.refuses(
        signed(swapped, "tina", "tove", *also),
        RefusedError,
        "does not say the same as targets v1, which stands: publisher acme",
    )
    removed = edited(scene.draft().data, lambda said: said.pop("delegations"))
    scene.refuses(
        signed(removed, "tina", "tove", *also), RefusedError, "publisher acme"
    )
    scene.goes_through()
