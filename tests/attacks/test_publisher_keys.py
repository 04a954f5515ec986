"""Keys of publishers and applications: stolen, taken away, and never back."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import SSlibKey

from margo_supplychain import threshold
from margo_supplychain.authoring.housekeeping import prune
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import (
    KeyFormatError,
    RefusedError,
    ThresholdError,
    UnknownTargetError,
)
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.versions import Version
from tests.authoring.marketplace import ANY, TORQUE, Marketplace, public
from tests.authoring.trust import OPEN, PUMP, VALVE, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit


class Mallory:
    """Has the online keys, and may write where the repository lies."""

    def __init__(self, market: Marketplace) -> None:
        self.market = market
        self._metadata = market.vendor.trust / "metadata"

    def sign(
        self, role: str, by: str, *, version: int, change: Callable[[Any], None]
    ) -> int:
        """Change what a role says, sign it with a stolen key, and have it listed."""
        vendor = self.market.vendor
        known = vendor.signed(f"{vendor.version(role)}.{role}.json")
        change(known)
        self._list(role, self._signed(known | {"version": version}, by), version)
        return version

    def replay(self, role: str, version: int) -> None:
        """Let the snapshot list an old file again, under the newest version."""
        data = (self._metadata / f"{version}.{role}.json").read_bytes()
        self._list(role, data, version)

    def _list(self, role: str, data: bytes, version: int) -> None:
        vendor = self.market.vendor
        (self._metadata / f"{version}.{role}.json").write_bytes(data)
        snapshot = vendor.signed(f"{vendor.version('snapshot')}.snapshot.json")
        snapshot["meta"][f"{role}.json"] = _meta(data, version)
        snapshot["version"] += 1
        listed = self._signed(snapshot, "ci")
        (self._metadata / f"{snapshot['version']}.snapshot.json").write_bytes(listed)
        timestamp = vendor.signed("timestamp.json")
        timestamp["meta"]["snapshot.json"] = _meta(listed, snapshot["version"])
        timestamp["version"] += 1
        (self._metadata / "timestamp.json").write_bytes(self._signed(timestamp, "ci"))

    def _signed(self, signed: dict[str, Any], by: str) -> bytes:
        signature = key(by).sign(canonical_json.encode(signed))
        return json.dumps(
            {"signatures": [signature.to_dict()], "signed": signed}
        ).encode()


def _meta(data: bytes, version: int) -> dict[str, Any]:
    digest = hashlib.sha256(data).hexdigest()
    return {"version": version, "length": len(data), "hashes": {"sha256": digest}}


@pytest.fixture
def market(tmp_path: Path) -> Marketplace:
    return Marketplace(tmp_path)


def refused(market: Marketplace, kind: type[Exception], match: str) -> None:
    """Expect a refusal, by a device of before and by a fresh one; nothing moved."""
    before = market.store.load()
    for fresh in (False, True):
        with pytest.raises(kind, match=match):
            market.device(fresh=fresh).verify(PUMP, ANY)
    after = market.store.load()
    assert (after.releases, after.fetched) == (before.releases, before.fetched)
    assert (after.withdrawn, after.epochs) == (before.withdrawn, before.epochs)
    assert market.may_run()
    assert market.newest(TORQUE) == "1.0.0"  # the others don't notice


def open_to_mallory(signed: dict[str, Any]) -> None:
    """Let a publisher's role delegate its pump to Mallory's key."""
    mallory = public("mallory")
    delegations = signed["delegations"]
    delegations["keys"][mallory.keyid] = mallory.to_dict()
    delegations["roles"][0]["keyids"] = [mallory.keyid]


# --- T-114: a key that was taken away signs again ------------------------------------


def test_publisher_key_after_its_rotation(market: Marketplace) -> None:
    """Acme's key was replaced. Mallory has the old one and all online keys, and lists a
    newer role of acme's that delegates to her."""
    market.edit(
        lambda edit: edit.rotate_keys("acme", [public("new")], threshold=1), "new"
    )
    assert market.newest() == "1.0.0"  # sane

    version = market.vendor.version("acme") + 1
    Mallory(market).sign("acme", "acme", version=version, change=open_to_mallory)
    refused(market, ThresholdError, f"acme v{version} has 0 of 1 required signatures")


def test_publisher_key_between_cut_off_and_new_signature(market: Marketplace) -> None:
    """Acme's stolen key was cut off, and its holder has not signed yet. Mallory signs
    with the stolen key meanwhile: what the holder goes on from is what acme said before
    the cut-off, and nothing of hers."""
    market.edit(lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1))
    refused(market, ThresholdError, "acme v1 has 0 of 1")  # sane

    for version in (2, 3):
        Mallory(market).sign("acme", "acme", version=version, change=open_to_mallory)
        refused(market, ThresholdError, f"acme v{version} has 0 of 1")
    # Somebody uses the online keys: that is no duty of acme's any more.
    assert any("acme v3 has 0 of 1" in one for one in market.problems())
    with open_shelf(str(market.vendor.trust)) as shelf:
        prune(shelf, trust=market.store, clock=market.vendor.clock, keep=1)

    edit = market.edit(lambda edit: edit.refresh("acme"), "new")
    assert "acme goes on from v1" in edit.warnings[0]
    assert market.vendor.version("acme") == 4
    assert market.newest() == "1.0.0"
    signed = market.vendor.signed("4.acme.json")
    assert public("mallory").keyid not in signed["delegations"]["keys"]


def test_junk_in_the_place_of_a_publisher(market: Marketplace) -> None:
    """Mallory has the online keys alone, and lists what nobody of acme's signed. Acme
    can be given other keys all the same; that nothing is gone on from is said."""
    Mallory(market).sign("acme", "mallory", version=9, change=open_to_mallory)
    refused(market, ThresholdError, "acme v9 has 0 of 1")
    with pytest.raises(ThresholdError, match="acme v9 has 0 of 1"):
        market.edit(lambda edit: edit.refresh("acme"), "acme")

    edit = market.edit(
        lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1)
    )
    assert "its holder will begin anew" in edit.warnings[1]

    def begin(edit: Edit) -> None:
        edit.add_application(PUMP, [public("new-ci")], policy=OPEN)

    edit = market.edit(begin, "new", "new-ci")
    assert "acme begins anew, without what it listed once" in edit.warnings
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.problems() == []


def test_application_key_after_its_rotation(market: Marketplace) -> None:
    """The pump's release key was replaced; the thief of the old one lists a release."""
    market.edit(
        lambda edit: edit.rotate_keys(PUMP.role, [public("new-ci")], threshold=1),
        *("acme", "new-ci"),
    )
    assert market.newest() == "1.0.0"  # sane

    version = market.vendor.version(PUMP.role) + 1

    def withdraw(signed: dict[str, Any]) -> None:
        custom = signed["targets"]["acme/releases/pump-monitor/1.0.0"]["custom"]
        custom["withdrawn"] = {"reason": "mine", "since": "2026-11-21T10:00:00Z"}

    Mallory(market).sign(PUMP.role, "pump-monitor-ci", version=version, change=withdraw)
    refused(market, ThresholdError, rf"acme\.pump-monitor v{version} has 0 of 1")


def test_one_key_of_two(market: Marketplace) -> None:
    """Two of three keys speak for acme; Mallory stole one of them."""
    keys = [public(name) for name in ("a", "b", "c")]
    market.edit(lambda edit: edit.rotate_keys("acme", keys, threshold=2), "a", "b")
    assert market.newest() == "1.0.0"  # sane

    version = market.vendor.version("acme") + 1
    Mallory(market).sign("acme", "a", version=version, change=open_to_mallory)
    refused(market, ThresholdError, f"acme v{version} has 1 of 2 required signatures")


def test_removed_publisher_goes_on(market: Marketplace) -> None:
    """Acme was removed; with its keys and the online ones it goes on publishing."""
    market.edit(lambda edit: edit.remove_publisher("acme"))
    refused(market, UnknownTargetError, "delegates to nobody for acme/pump-monitor")

    version = market.vendor.version(PUMP.role) + 1
    Mallory(market).sign(
        PUMP.role, "pump-monitor-ci", version=version, change=lambda signed: None
    )
    refused(market, UnknownTargetError, "delegates to nobody for acme/pump-monitor")


# --- T-115: a key that left comes back -----------------------------------------------


def test_key_that_left_is_given_back(market: Marketplace) -> None:
    """Somebody in a hurry gives a role its old key again: refused, also where old
    versions were cleared away, after a removal, and under another key id."""
    for _ in range(2):
        market.edit(
            lambda edit: edit.rotate_keys(
                "acme", [public(f"acme-{edit.standing('acme')[0]}")], threshold=1
            ),
            *("acme-1", "acme-2"),
        )
    market.edit(
        lambda edit: edit.rotate_keys(PUMP.role, [public("new-ci")], threshold=1),
        *("acme-2", "new-ci"),
    )
    assert market.newest() == "1.0.0"  # sane
    with open_shelf(str(market.vendor.trust)) as shelf:
        prune(shelf, trust=market.store, clock=market.vendor.clock, keep=1)

    before = market.vendor.files()

    def give_back(edit: Edit) -> None:
        for name in ("acme", "acme-1"):
            with pytest.raises(RefusedError, match="left the role acme before"):
                edit.cut_off_keys("acme", [public(name)], threshold=1)
        with pytest.raises(
            RefusedError, match=r"left the role acme\.pump-monitor befo"
        ):
            edit.rotate_keys(PUMP.role, [public("pump-monitor-ci")], threshold=1)

    market.edit(give_back, "acme-2")
    assert market.vendor.files() == before

    def after_removal(edit: Edit) -> None:
        edit.remove_publisher("acme")
        for name in ("acme", "acme-1", "acme-2"):
            with pytest.raises(RefusedError, match="left the role acme before"):
                edit.add_publisher("acme", [public(name)], threshold=1)
        edit.add_publisher("acme", [public("acme-3")], threshold=1)
        for name in ("pump-monitor-ci", "new-ci"):
            with pytest.raises(RefusedError, match=r"left the role acme\.pump-monitor"):
                edit.add_application(PUMP, [public(name)], policy=OPEN)

    market.edit(after_removal, "acme-3")


def test_key_that_left_under_another_id(market: Marketplace) -> None:
    """The old key with one field more: another key id, the same key."""
    market.edit(
        lambda edit: edit.rotate_keys("acme", [public("new")], threshold=1), "new"
    )
    old = public("acme")
    form = {**old.to_dict(), "x-label": "quite another key"}
    disguised = SSlibKey(
        hashlib.sha256(canonical_json.encode(form)).hexdigest(),
        old.keytype,
        old.scheme,
        dict(old.keyval),
        {"x-label": "quite another key"},
    )
    assert threshold.keyid_matches(disguised.keyid, disguised)  # sane
    assert disguised.keyid != old.keyid

    before = market.vendor.files()

    def give_back(edit: Edit) -> None:
        with pytest.raises(RefusedError, match="left the role acme before"):
            edit.cut_off_keys("acme", [disguised], threshold=1)
        with pytest.raises(KeyFormatError, match="is given twice in one role"):
            edit.cut_off_keys("acme", [disguised, old], threshold=2)

    market.edit(give_back)
    assert market.vendor.files() == before


def test_old_file_of_a_publisher_that_was_added_again(market: Marketplace) -> None:
    """Acme was removed, and another vendor has that name now. Mallory has the online
    keys and all that the first acme ever signed."""
    market.edit(lambda edit: edit.remove_publisher("acme"))

    def again(edit: Edit) -> None:
        edit.add_publisher("acme", [public("new")], threshold=1)
        edit.add_application(PUMP, [public("new-ci")], policy=OPEN)

    market.edit(again, "new", "new-ci")
    market.publish("1.1.0", ci="new-ci")
    assert market.newest() == "1.1.0"  # sane

    Mallory(market).replay("acme", 1)
    with pytest.raises(ThresholdError, match="acme v1 has 0 of 1"):
        market.device(fresh=True).verify(PUMP, ANY)
    with pytest.raises(Exception, match="acme v1 is older than trusted") as why:
        market.device().verify(PUMP, ANY)
    assert getattr(why.value, "code", "") == "rollback"
    assert market.may_run()


# --- T-116: what a thief leaves behind -----------------------------------------------


def test_absurd_versions_by_a_stolen_release_key(market: Marketplace) -> None:
    """The thief lists 999.0.0 under a role version that leaves little room, and a
    device runs it. Afterwards the role counts on, and devices follow."""
    market.publish("999.0.0")
    market.install("999.0.0")
    far = 2**52
    Mallory(market).sign(
        PUMP.role, "pump-monitor-ci", version=far, change=lambda signed: None
    )
    assert market.newest() == "999.0.0"  # sane: her key counts until it is taken away

    market.edit(
        lambda edit: edit.cut_off_keys(PUMP.role, [public("new-ci")], threshold=1),
        "acme",
    )
    refused(market, ThresholdError, rf"acme\.pump-monitor v{far} has 0 of 1")
    raised = replace(OPEN, epoch=2, minimum_version=Version.parse("1.1.0"))
    market.edit(lambda edit: edit.set_policy(PUMP, raised), "acme")
    market.edit(
        lambda edit: edit.withdraw(PUMP, Version.parse("999.0.0"), reason="stolen key"),
        "new-ci",
    )
    assert market.vendor.version(PUMP.role) == far + 1
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.problems() == []


def test_absurd_versions_by_a_stolen_publisher_key(market: Marketplace) -> None:
    """The same with acme's own key: its applications are given keys as before, though
    nobody could look through all the versions that its role could have had."""
    far = 2**52
    Mallory(market).sign("acme", "acme", version=far, change=open_to_mallory)
    refused(market, ThresholdError, r"acme\.pump-monitor v1 has 0 of 1")

    market.edit(lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1))

    def repair(edit: Edit) -> None:
        keys = [public("new-ci")]
        assert edit.rotate_keys(PUMP.role, keys, threshold=1)
        edit.add_application(VALVE, [public("valve-ci")], policy=OPEN)

    market.edit(repair, "new", "new-ci")
    assert market.vendor.version("acme") == far + 1
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.problems() == []


def test_publisher_role_that_claims_what_is_not_its_own(market: Marketplace) -> None:
    """Bolt's role says of others that they left, were cut off and are held by Mallory:
    nothing of it counts outside of bolt's own applications."""

    def claim(signed: dict[str, Any]) -> None:
        entry = _meta(b"{}", 1)
        signed["x-left"] = {"acme": ["0" * 64], PUMP.role: ["0" * 64]}
        signed["x-cut-off"] = {
            name: {"listed": entry, "last": entry} for name in ("acme", PUMP.role)
        }
        signed["x-holders"] = {public("acme").keyid: {"name": "Mallory"}}

    version = market.vendor.version("bolt") + 1
    Mallory(market).sign("bolt", "bolt", version=version, change=claim)
    assert market.newest() == "1.0.0"
    assert market.newest(TORQUE) == "1.0.0"
    assert market.problems() == []
    market.edit(lambda edit: edit.remove_publisher("bolt"))
    targets = market.vendor.signed(f"{market.vendor.version('targets')}.targets.json")
    assert set(targets["x-left"]) == {"bolt", TORQUE.role}
    market.edit(
        lambda edit: edit.rotate_keys("acme", [public("new")], threshold=1), "new"
    )
    assert market.newest() == "1.0.0"


@pytest.mark.parametrize("field", ["x-left", "x-cut-off", "x-holders"])
@pytest.mark.parametrize("value", [7, {"acme": 7}, {"bolt.torque": {"listed": {}}}])
def test_fields_that_are_none(market: Marketplace, field: str, value: object) -> None:
    """What a vendor writes into its own role ends nobody else's work, nor what shows
    how the repository stands; and the vendor can be removed."""
    version = market.vendor.version("bolt") + 1
    Mallory(market).sign(
        "bolt",
        "bolt",
        version=version,
        change=lambda signed: signed.update({field: value}),
    )
    assert market.newest() == "1.0.0"
    market.problems()
    vendor = market.vendor
    assert vendor.repository.status(within=vendor.clock.when - vendor.clock.when)
    market.publish("1.1.0")
    market.edit(lambda edit: edit.remove_publisher("bolt"))
    market.install("1.1.0")


def test_publisher_that_makes_itself_hard_to_forget(market: Marketplace) -> None:
    """Bolt says that a great many keys left its applications: what every device reads
    of `targets` stays small when it is removed."""
    many = {f"bolt.app-{one}": [f"{one:064x}"] for one in range(20_000)}

    def stuff(signed: dict[str, Any]) -> None:
        signed["x-left"] = many

    version = market.vendor.version("bolt") + 1
    Mallory(market).sign("bolt", "bolt", version=version, change=stuff)
    assert market.newest(TORQUE) == "1.0.0"  # sane
    edit = market.edit(lambda edit: edit.remove_publisher("bolt"))
    assert edit.warnings == ()  # nothing of theirs was ever signed
    name = f"{market.vendor.version('targets')}.targets.json"
    assert TORQUE.role in market.vendor.signed(name)["x-left"]
    assert (market.vendor.trust / "metadata" / name).stat().st_size < 2 << 20
    assert market.newest() == "1.0.0"
