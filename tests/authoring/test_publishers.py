"""Publishers of one repository: public keys alone, rotation, cut-off and removal, and
what devices make of each."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.delegator_fields import LEFT
from margo_supplychain.authoring.holders import HOLDERS, Holder
from margo_supplychain.authoring.housekeeping import prune
from margo_supplychain.authoring.shelves import open_shelf
from margo_supplychain.errors import (
    DigestMismatchError,
    IncompleteError,
    RefusedError,
    ThresholdError,
    UnknownTargetError,
)
from margo_supplychain.formats.versions import Version
from tests.authoring.market import Market
from tests.authoring.marketplace import ANY, TORQUE, Marketplace, public
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key

if TYPE_CHECKING:
    from pathlib import Path

    from securesystemslib.signer import Key

    from margo_supplychain.authoring.duties import Duty
    from margo_supplychain.authoring.edit import Edit

UNTIL = "until its new keys have signed; what they run keeps running"
LOOK = (
    "the last file by the keys that were cut off: whoever has them may have signed it, "
    "so look through what it lists"
)


@pytest.fixture
def market(tmp_path: Path) -> Marketplace:
    return Marketplace(tmp_path)


def duty(market: Marketplace, role: str) -> Duty:
    found = market.vendor.repository.status(
        within=timedelta(days=1), clock=market.vendor.clock
    )
    return next(one for one in found if one.role == role)


# --- public keys alone ---------------------------------------------------------------


def test_public_keys_are_enough(vendor: Vendor) -> None:
    """The operator never holds a vendor's key: the vendor signs when it has something
    to say, and until then devices know no such publisher."""
    vendor.profile = "standard"
    repository = vendor.create()
    with repository.edit(vendor.keys, clock=vendor.clock) as edit:
        assert edit.add_publisher("acme", [public("acme")], threshold=1)
    assert not (vendor.trust / "metadata/1.acme.json").exists()
    assert repository.check(clock=vendor.clock).violations == ()
    found = repository.status(within=timedelta(days=1), clock=vendor.clock)
    acme = next(one for one in found if one.role == "acme")
    assert (acme.version, acme.due, acme.problem) == (None, False, None)
    with pytest.raises(UnknownTargetError, match="does not list the role acme") as why:
        vendor.device().verify(PUMP, ANY)
    assert why.value.code == "unknown-target"

    with repository.edit([key("acme"), key("ci")], clock=vendor.clock) as edit:
        edit.add_application(PUMP, [public("pump-monitor-ci")], policy=OPEN)
    assert vendor.version("acme") == 1
    vendor.publish("1.0.0", keys=[key("pump-monitor-ci"), key("ci")])
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"


def test_m_of_n_publisher_keys(vendor: Vendor) -> None:
    vendor.profile = "standard"
    repository = vendor.create()
    keys = [public(name) for name in ("a", "b", "c")]
    with repository.edit([*vendor.keys, key("a")], clock=vendor.clock) as edit:
        edit.add_publisher("acme", keys, threshold=2)
    assert not (vendor.trust / "metadata/1.acme.json").exists()  # one is not enough
    with (
        pytest.raises(IncompleteError, match=r"^acme needs 1 more of"),
        repository.edit([key("a"), key("ci")], clock=vendor.clock) as edit,
    ):
        edit.add_application(PUMP, [public("pump-monitor-ci")], policy=OPEN)
    with repository.edit([key("a"), key("c"), key("ci")], clock=vendor.clock) as edit:
        edit.add_application(PUMP, [public("pump-monitor-ci")], policy=OPEN)
    vendor.publish("1.0.0", keys=[key("pump-monitor-ci"), key("ci")])
    release = vendor.device().verify(PUMP, ANY)
    assert str(release.version) == "1.0.0"


def test_holders_are_signed_beside_the_keys(market: Marketplace) -> None:
    vendor = market.vendor
    one, two = public("acme-1"), public("acme-2")
    holders = {one.keyid: Holder(name="holder A", custody="never-extractable")}
    market.edit(
        lambda edit: edit.rotate_keys("acme", [one], threshold=1, holders=holders),
        "acme-1",
    )
    signed = vendor.signed(f"{vendor.version('targets')}.targets.json")
    assert signed[HOLDERS] == {
        one.keyid: {"name": "holder A", "custody": "never-extractable"}
    }
    assert "holder" not in str(signed["delegations"]["keys"])
    held = duty(market, "acme").keys
    assert [(key.keyid, key.holder.name) for key in held] == [(one.keyid, "holder A")]

    def rename(edit: Edit) -> bool:
        named = {one.keyid: Holder(name="holder B")}
        return edit.rotate_keys("acme", [one], threshold=1, holders=named)

    assert market.changes(rename, "acme-1")
    assert duty(market, "acme").holders == ("holder B",)
    assert duty(market, "acme").keys[0].holder.custody == "never-extractable"
    before = vendor.files()
    assert not market.changes(rename, "acme-1")
    assert vendor.files() == before

    # An application's holders are signed by its publisher; who leaves is not named.
    ci = {public("pump-monitor-ci").keyid: Holder(name="build machine")}
    market.edit(
        lambda edit: edit.add_application(
            PUMP, [public("pump-monitor-ci")], policy=OPEN, holders=ci
        ),
        "acme-1",
    )
    assert duty(market, PUMP.role).holders == ("build machine",)
    market.edit(lambda edit: edit.rotate_keys("acme", [two], threshold=1), "acme-2")
    signed = vendor.signed(f"{vendor.version('targets')}.targets.json")
    assert HOLDERS not in signed


# --- rotation ------------------------------------------------------------------------


def test_rotation_carries_on_what_is_listed(market: Marketplace) -> None:
    vendor = market.vendor
    before = vendor.version("acme"), vendor.version("targets")
    market.edit(
        lambda edit: edit.rotate_keys("acme", [public("new")], threshold=1), "new"
    )
    assert (vendor.version("acme"), vendor.version("targets")) == (
        before[0] + 1,
        before[1] + 1,
    )
    assert market.newest() == "1.0.0"
    assert market.newest(TORQUE) == "1.0.0"
    assert market.problems() == []
    left = vendor.signed(f"{vendor.version('targets')}.targets.json")[LEFT]
    assert list(left) == ["acme"]


def test_rotation_without_the_new_keys_is_refused(market: Marketplace) -> None:
    before = market.vendor.files()
    for role, operator in (("acme", ()), (PUMP.role, ("acme",))):

        def rotate(edit: Edit, role: str = role) -> None:
            with pytest.raises(RefusedError, match="devices would refuse it") as why:
                edit.rotate_keys(role, [public("new")], threshold=1)
            assert "--cut-off" in str(why.value.hint)

        market.edit(rotate, *operator)
    assert market.vendor.files() == before


def test_a_lost_key_is_replaced_without_a_gap(market: Marketplace) -> None:
    """The old and the new key stand side by side until the new one has signed."""
    lost, new = public("acme"), public("new")
    market.edit(lambda edit: edit.rotate_keys("acme", [lost, new], threshold=1))
    assert market.newest() == "1.0.0"
    market.edit(lambda edit: edit.refresh("acme"), "new")
    assert market.newest() == "1.0.0"
    # Signed by the new key already: nothing of the vendor is needed any more.
    signed = market.vendor.version("acme")
    market.edit(lambda edit: edit.rotate_keys("acme", [new], threshold=1))
    assert market.vendor.version("acme") == signed
    assert market.newest() == "1.0.0"
    assert market.problems() == []
    with pytest.raises(RefusedError, match="left the role acme before"):
        market.edit(lambda edit: edit.rotate_keys("acme", [lost, new], threshold=1))


def test_a_raised_threshold_needs_the_signatures(market: Marketplace) -> None:
    keys = [public("acme"), public("second")]
    market.edit(lambda edit: edit.rotate_keys("acme", keys, threshold=1))
    with pytest.raises(RefusedError, match="acme is not signed by 2 of"):
        market.edit(lambda edit: edit.rotate_keys("acme", keys, threshold=2))
    market.edit(lambda edit: edit.refresh("acme"), "acme", "second")
    market.edit(lambda edit: edit.rotate_keys("acme", keys, threshold=2))
    assert market.newest() == "1.0.0"


# --- cutting off ---------------------------------------------------------------------


def test_a_publisher_is_cut_off_and_goes_on(market: Marketplace) -> None:
    """A stolen key is taken away at once; its holder signs days later, elsewhere."""
    vendor = market.vendor
    edit = market.edit(
        lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1)
    )
    assert list(edit.warnings) == [
        f"devices refuse acme and all its applications from now on, {UNTIL}"
    ]
    for fresh in (True, False):
        with pytest.raises(ThresholdError, match="acme v1 has 0 of 1") as why:
            market.device(fresh=fresh).verify(PUMP, ANY)
        assert why.value.code == "threshold"
    assert market.may_run()
    assert market.newest(TORQUE) == "1.0.0"  # others don't notice
    assert market.problems() == []
    acme = duty(market, "acme")
    assert acme.due
    assert acme.problem == (
        "acme v1 is not signed by the keys that it was given since: devices refuse it "
        "until they sign"
    )
    assert acme.action == "repo refresh --role acme"
    market.publish("2.0.0", TORQUE)

    edit = market.edit(lambda edit: edit.refresh("acme"), "new")
    assert list(edit.warnings) == [f"acme goes on from v1, {LOOK}"]
    assert vendor.version("acme") == 2
    assert market.newest() == "1.0.0"
    assert market.problems() == []
    market.publish("1.1.0")
    market.install("1.1.0")


def test_the_new_key_is_lost_before_it_signed(market: Marketplace) -> None:
    """Cut off twice, a role goes on from the last file that devices accepted."""
    for name in ("new-1", "new-2"):
        keys = [public(name)]

        def rotate(edit: Edit, keys: list[Key] = keys) -> bool:
            return edit.cut_off_keys("acme", keys, threshold=1)

        market.edit(rotate)
    market.edit(lambda edit: edit.refresh("acme"), "new-2")
    assert market.newest() == "1.0.0"
    with pytest.raises(RefusedError, match="left the role acme before"):
        market.edit(
            lambda edit: edit.rotate_keys("acme", [public("new-1")], threshold=1)
        )


def test_a_cut_off_role_is_rotated_with_keys_at_hand(market: Marketplace) -> None:
    market.edit(lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1))
    edit = market.edit(
        lambda edit: edit.rotate_keys("acme", [public("next")], threshold=1), "next"
    )
    assert "acme goes on from v1" in edit.warnings[0]
    assert market.newest() == "1.0.0"


def test_the_holder_changes_more_in_the_same_edit(market: Marketplace) -> None:
    """Also what hangs below a publisher whose role no device accepts just now."""
    market.edit(lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1))
    with pytest.raises(ThresholdError, match="acme v1 has 0 of 1"):
        market.publish("1.1.0")

    def change(edit: Edit) -> None:
        floor = replace(OPEN, epoch=2, minimum_version=Version.parse("1.1.0"))
        edit.set_policy(PUMP, floor)
        edit.rotate_keys(PUMP.role, [public("pump-ci-2")], threshold=1)
        edit.add_application(VALVE, [public("valve-ci")], policy=OPEN)
        edit.add_release(market.vendor.release("1.1.0"))

    market.edit(change, "new", "pump-ci-2")
    market.install("1.1.0")
    assert market.problems() == []


def test_an_application_is_cut_off_and_recovers(market: Marketplace) -> None:
    """A stolen release key: absurd versions are withdrawn, epoch and minimum raised,
    and the role's versions go on counting."""
    vendor = market.vendor
    market.publish("999.0.0")  # the thief's
    assert market.newest() == "999.0.0"
    known = vendor.version(PUMP.role)
    market.edit(
        lambda edit: edit.cut_off_keys(PUMP.role, [public("new-ci")], threshold=1),
        "acme",
    )
    with pytest.raises(
        ThresholdError, match=rf"acme\.pump-monitor v{known} has 0 of 1"
    ):
        market.device().verify(PUMP, ANY)
    assert market.may_run()
    assert market.problems() == []

    # The publisher's key need not wait for the build machine's.
    raised = replace(OPEN, epoch=2, minimum_version=Version.parse("1.1.0"))
    market.edit(lambda edit: edit.set_policy(PUMP, raised), "acme")
    edit = market.edit(
        lambda edit: edit.withdraw(PUMP, Version.parse("999.0.0"), reason="stolen key"),
        "new-ci",
    )
    assert f"acme.pump-monitor goes on from v{known}" in edit.warnings[0]
    assert vendor.version(PUMP.role) == known + 1
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.newest() == "1.1.0"
    assert market.problems() == []


def test_an_application_without_its_policy_is_cut_off(market: Marketplace) -> None:
    """Damage is no reason to leave a stolen key where it is."""
    for path in (market.vendor.trust / "targets/acme/policies").rglob("*.json"):
        path.unlink()
    keys = [public("new-ci")]
    market.edit(
        lambda edit: edit.cut_off_keys(PUMP.role, keys, threshold=1),
        "acme",
    )
    with pytest.raises(ThresholdError):
        market.device(fresh=True).verify(PUMP, ANY)


def test_a_device_that_ran_what_the_thief_published(market: Marketplace) -> None:
    market.publish("999.0.0")
    market.install("999.0.0")
    market.edit(
        lambda edit: edit.rotate_keys(PUMP.role, [public("new-ci")], threshold=1),
        *("acme", "new-ci"),
    )
    market.edit(
        lambda edit: edit.withdraw(PUMP, Version.parse("999.0.0"), reason="stolen key"),
        "new-ci",
    )
    raised = replace(OPEN, epoch=2, minimum_version=Version.parse("1.1.0"))
    market.edit(lambda edit: edit.set_policy(PUMP, raised), "acme")
    market.publish("1.1.0", ci="new-ci")
    assert market.newest() == "1.1.0"
    assert not market.may_run()  # an alarm: what runs is withdrawn by now
    market.install("1.1.0")
    assert market.may_run()


def test_a_publisher_key_and_an_absurd_epoch(market: Marketplace) -> None:
    """The thief of a publisher's key raised the epoch beyond everybody's reach; the
    new key's policies count from where they are, and the floor's version stays."""
    absurd = replace(OPEN, epoch=900_000, minimum_version=Version.parse("1.0.1"))
    market.edit(lambda edit: edit.set_policy(PUMP, absurd), "acme")
    market.publish("1.0.1")
    market.install("1.0.1")
    market.edit(lambda edit: edit.cut_off_keys("acme", [public("new")], threshold=1))
    market.edit(lambda edit: edit.refresh("acme"), "new")
    market.publish("1.1.0")
    market.install("1.1.0")


# --- removal -------------------------------------------------------------------------


def test_a_publisher_is_removed(market: Marketplace) -> None:
    """Devices refuse what it offers; what runs keeps running, and nothing goes back."""
    vendor = market.vendor
    roles = vendor.version("acme"), vendor.version(PUMP.role)
    edit = market.edit(lambda edit: edit.remove_publisher("acme"))
    assert edit.warnings == ()
    assert edit.written is not None
    assert set(edit.written.roles) == {"targets", "snapshot", "timestamp"}
    memory = market.store.load()
    for fresh in (True, False):
        with pytest.raises(UnknownTargetError) as why:
            market.device(fresh=fresh).verify(PUMP, ANY)
        assert why.value.code == "unknown-target"
        assert "delegates to nobody for acme/pump-monitor" in str(why.value)
    assert market.may_run()
    after = market.store.load()
    assert (after.releases, after.fetched) == (memory.releases, memory.fetched)
    # Entries stay in the snapshot, or devices would refuse all of it.
    assert (vendor.version("acme"), vendor.version(PUMP.role)) == roles
    assert market.newest(TORQUE) == "1.0.0"
    assert market.problems() == []
    found = vendor.repository.status(within=timedelta(days=1), clock=vendor.clock)
    assert not any(one.role.startswith("acme") for one in found)
    edit = market.edit(lambda edit: edit.refresh("targets"))
    assert edit.warnings == ()  # nobody takes it for somebody else's work


def test_removing_again_changes_nothing(market: Marketplace) -> None:
    assert market.changes(lambda edit: edit.remove_publisher("acme"))
    before = market.vendor.files()
    assert not market.changes(lambda edit: edit.remove_publisher("acme"))
    assert market.vendor.files() == before

    def refused(edit: Edit) -> None:
        with pytest.raises(RefusedError, match="there is no role zeta here"):
            edit.remove_publisher("zeta")
        with pytest.raises(RefusedError, match="there is no role acme here"):
            edit.remove_application(PUMP)
        with pytest.raises(RefusedError, match=r"there is no role bolt\.other here"):
            edit.remove_application(replace(TORQUE, name="other"))

    market.edit(refused)


def test_the_last_publisher_is_removed(vendor: Vendor) -> None:
    """An empty repository is none of the profile simple: its devices say the same."""
    vendor.profile = "standard"
    repository = vendor.create()
    with repository.edit([*vendor.keys, key("acme")], clock=vendor.clock) as edit:
        edit.add_publisher("acme", [public("acme")], threshold=1)
        edit.add_application(PUMP, [public("ci")], policy=OPEN)
    vendor.publish("1.0.0")
    store = vendor.store("device")
    vendor.device(store).verify(PUMP, ANY)
    with repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.remove_publisher("acme")
    assert "delegations" not in vendor.signed(
        f"{vendor.version('targets')}.targets.json"
    )
    for device in (vendor.device(), vendor.device(store)):
        with pytest.raises(UnknownTargetError, match="delegates to nobody for acme/pu"):
            device.verify(PUMP, ANY)
    assert repository.check(clock=vendor.clock).violations == ()


@pytest.mark.parametrize("gone", [False, True])
def test_a_publisher_whose_role_is_damaged_is_removed(
    market: Marketplace, gone: bool
) -> None:
    path = market.vendor.trust / "metadata/1.acme.json"
    if gone:
        path.unlink()
    else:
        path.write_bytes(b"damaged")
    edit = market.edit(lambda edit: edit.remove_publisher("acme"))
    assert "which keys the applications of acme had can't be read" in edit.warnings[0]
    assert market.newest(TORQUE) == "1.0.0"


def test_keys_of_a_removed_publisher_never_return(market: Marketplace) -> None:
    """Nor do those of its applications, also when old versions were cleared away."""
    market.edit(
        lambda edit: edit.rotate_keys(PUMP.role, [public("ci-2")], threshold=1),
        *("acme", "ci-2"),
    )
    market.edit(lambda edit: edit.remove_publisher("acme"))
    for _ in range(3):
        market.edit(lambda edit: edit.refresh("targets"))
    with open_shelf(str(market.vendor.trust)) as shelf:
        prune(shelf, trust=market.store, clock=market.vendor.clock, keep=1)
    with pytest.raises(RefusedError, match="left the role acme before"):
        market.edit(
            lambda edit: edit.add_publisher("acme", [public("acme")], threshold=1)
        )

    def again(edit: Edit) -> None:
        edit.add_publisher("acme", [public("new")], threshold=1)
        for name in ("pump-monitor-ci", "ci-2"):
            with pytest.raises(RefusedError, match=r"left the role acme\.pump-monitor"):
                edit.add_application(PUMP, [public(name)], policy=OPEN)
        edit.add_application(PUMP, [public("ci-3")], policy=OPEN)

    market.edit(again, "new")


@pytest.mark.parametrize("later", [False, True])
def test_a_publisher_of_that_name_again(market: Marketplace, later: bool) -> None:
    """It begins anew, above the versions that devices have seen; a device that ran the
    old one's releases goes on from there."""
    vendor = market.vendor
    versions = vendor.version("acme"), vendor.version(PUMP.role)
    market.edit(lambda edit: edit.remove_publisher("acme"))
    keys = () if later else ("new",)
    edit = market.edit(
        lambda edit: edit.add_publisher("acme", [public("new")], threshold=1), *keys
    )
    assert any(
        "acme was a publisher here before, and begins anew" in one
        and "releases and withdrawals are forgotten" in one
        for one in edit.warnings
    )
    with pytest.raises((UnknownTargetError, ThresholdError)):
        market.device().verify(PUMP, ANY)
    assert market.problems() == []

    market.edit(
        lambda edit: edit.add_application(PUMP, [public("new-ci")], policy=OPEN), "new"
    )
    assert market.problems() == []
    assert vendor.version("acme") == versions[0] + (1 if later else 2)
    market.publish("1.1.0", ci="new-ci")
    assert vendor.version(PUMP.role) == versions[1] + 1
    market.install("1.1.0")
    listed = vendor.signed(f"{vendor.version(PUMP.role)}.{PUMP.role}.json")["targets"]
    assert list(listed) == ["acme/releases/pump-monitor/1.1.0"]


def test_an_application_is_removed_and_added_again(market: Marketplace) -> None:
    raised = replace(OPEN, epoch=3, minimum_version=Version.parse("1.0.0"))
    market.edit(lambda edit: edit.set_policy(PUMP, raised), "acme")
    market.edit(lambda edit: edit.remove_application(PUMP), "acme")
    with pytest.raises(
        UnknownTargetError, match="delegates to nobody for acme/pump"
    ) as e:
        market.device().verify(PUMP, ANY)
    assert e.value.code == "unknown-target"
    assert market.may_run()
    assert market.problems() == []

    def again(edit: Edit) -> None:
        with pytest.raises(RefusedError, match=r"left the role acme\.pump-monitor"):
            edit.add_application(PUMP, [public("pump-monitor-ci")], policy=raised)
        with pytest.raises(
            RefusedError, match=r"the epoch of .* would fall from 3 to 1"
        ):
            edit.add_application(PUMP, [public("new-ci")], policy=OPEN)
        edit.add_application(PUMP, [public("new-ci")], policy=raised)

    market.edit(again, "acme")
    assert market.problems() == []
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.problems() == []


def test_an_application_whose_list_is_damaged_is_removed(market: Marketplace) -> None:
    """Damage keeps nothing here; that nothing can be gone on from is said."""
    (market.vendor.trust / f"metadata/1.{PUMP.role}.json").write_bytes(b"damaged")
    edit = market.edit(lambda edit: edit.remove_application(PUMP), "acme")
    assert "acme.pump-monitor listed can't be read: an appli" in edit.warnings[0]


def test_what_is_removed_is_not_judged(market: Marketplace) -> None:
    """What was changed in the same edit is forgotten, and needs no key."""

    def change(edit: Edit) -> None:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=Version.parse("1.0.0")))
        edit.add_application(VALVE, [public("valve-ci")], policy=OPEN)
        edit.remove_application(VALVE)
        edit.remove_publisher("acme")

    edit = market.edit(change)
    assert edit.written is not None
    assert set(edit.written.roles) == {"targets", "snapshot", "timestamp"}
    assert market.problems() == []


def test_damage_is_no_cut_off(market: Marketplace) -> None:
    """What is listed can't be read: that is repaired, or the publisher removed."""
    (market.vendor.trust / "metadata/1.acme.json").write_bytes(b"damaged")

    def cut_off(edit: Edit) -> None:
        assert edit.keyids("acme") == (public("acme").keyid,)
        assert edit.keyids(PUMP.role) == ()
        assert edit.below("acme") == ()
        edit.cut_off_keys("acme", [public("new")], threshold=1)

    with pytest.raises(DigestMismatchError, match=r"acme v1 is .*, signed is"):
        market.edit(cut_off)


def test_removed_and_added_in_one_edit(market: Marketplace) -> None:
    def change(edit: Edit) -> None:
        edit.refresh("acme")
        edit.remove_publisher("acme")
        edit.add_publisher("acme", [public("new")], threshold=1)
        edit.add_application(PUMP, [public("new-ci")], policy=OPEN)

    market.edit(change, "acme", "new", "new-ci")
    market.publish("1.1.0", ci="new-ci")
    market.install("1.1.0")
    assert market.problems() == []


def test_simple_has_none_to_remove(vendor: Vendor) -> None:
    vendor.profile = "simple"
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        with pytest.raises(RefusedError, match="simple has no publishers"):
            edit.remove_publisher("acme")
        with pytest.raises(RefusedError, match="simple has no publishers"):
            edit.remove_application(PUMP)
        with pytest.raises(RefusedError, match="keys of snapshot stand in the root"):
            edit.rotate_keys("snapshot", [public("new")], threshold=1)


def test_a_publisher_of_that_name_again_by_submission(tmp_path: Path) -> None:
    """Who takes the operator's own role in is told as well what is forgotten."""
    market = Market(tmp_path)
    market.open_market()
    with market.submit("offline") as edit:
        edit.remove_publisher("acme")
    assert market.accept().refused == ()
    with market.submit("offline") as edit:
        edit.add_publisher("acme", [public("new")], threshold=1)
    done = market.accept()
    assert len(done.taken) == 1
    for told in (edit.warnings, done.warnings):
        assert any("was a publisher here before, and begins" in one for one in told)
