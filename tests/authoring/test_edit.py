"""Edits: all or nothing, each change and each refusal."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import (
    ClockError,
    DigestMismatchError,
    ExpiredError,
    IncompleteError,
    NoMatchingVersionError,
    ProvenanceError,
    RefusedError,
    RollbackError,
    SignerError,
    ThresholdError,
    UnknownTargetError,
    WithdrawnError,
)
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import Reinstatement
from margo_supplychain.formats.versions import Version
from tests.authoring.trust import OPEN, PUMP, VALVE, Vendor, key

if TYPE_CHECKING:
    from securesystemslib.signer import Signature

ANY = Pin.range("*", grammar="npm")


def version(text: str) -> Version:
    return Version.parse(text)


# --- all or nothing ------------------------------------------------------------------


def test_an_edit_without_changes_writes_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        assert edit.releases(PUMP) == {}
    assert edit.written is not None
    assert edit.written.roles == {}
    assert vendor.files() == before


def test_an_exception_leaves_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    release = vendor.release("1.0.0")

    def interrupted() -> None:
        with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
            edit.add_release(release)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert vendor.files() == before


def test_every_changed_role_gets_the_next_version(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.add_release(vendor.release("1.0.0"))
    assert edit.written is not None
    assert {role: found[0] for role, found in edit.written.roles.items()} == {
        "acme.pump-monitor": 2,
        "snapshot": 3,
        "timestamp": 3,
    }
    assert vendor.version("acme") == 2
    assert vendor.version("targets") == 1
    assert edit.standing("targets")[0] == 1
    assert edit.standing("root")[0] == 1


def test_versioned_names_are_never_written_twice(vendor: Vendor) -> None:
    """What a killed run left is skipped over, also where it left gaps."""
    vendor.create_with_pump()
    metadata = vendor.trust / "metadata"
    for name in ("2.acme.pump-monitor", "3.acme.pump-monitor", "3.snapshot"):
        (metadata / f"{name}.json").write_bytes(b"left by a killed run")
    vendor.publish("1.0.0")
    assert vendor.version("acme.pump-monitor") == 4
    assert vendor.version("snapshot") == 4
    left = (metadata / "2.acme.pump-monitor.json").read_bytes()
    assert left == b"left by a killed run"
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


def test_missing_keys_are_all_named(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    with (
        pytest.raises(IncompleteError) as caught,
        vendor.repository.edit([], clock=vendor.clock) as edit,
    ):
        edit.set_policy(PUMP, replace(OPEN, minimum_version=version("1.0.0")))
    offline, ci = key("offline").public_key.keyid, key("ci").public_key.keyid
    assert str(caught.value) == (
        f"acme needs 1 more of {offline[:12]}; snapshot needs 1 more of {ci[:12]}; "
        f"timestamp needs 1 more of {ci[:12]}"
    )
    assert vendor.files() == before


def test_a_key_that_signs_badly_writes_nothing(
    vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    sign = key("ci").sign

    def flipped(payload: bytes) -> Signature:
        return sign(payload + b" ")

    monkeypatch.setattr(key("ci"), "sign", flipped)
    with pytest.raises(SignerError, match=r"made a signature of .* that does not"):
        vendor.publish("1.0.0")
    assert vendor.files() == before


def test_a_tampered_repository_is_not_built_upon(vendor: Vendor) -> None:
    vendor.create_with_pump()
    path = vendor.trust / "metadata/2.acme.json"
    path.write_bytes(path.read_bytes().replace(b"2027", b"2037"))
    before = vendor.files()
    with pytest.raises(Exception, match="acme is not the file that snapshot v2 names"):
        vendor.publish("1.0.0")
    assert vendor.files() == before


def test_content_that_changes_meanwhile_is_not_published(vendor: Vendor) -> None:
    vendor.create_with_pump()
    release = vendor.release("1.0.0", b"the right bytes")
    layer = Digest.of(b"the right bytes").hex
    path = vendor.directory / "built/blobs/sha256" / layer
    path.write_bytes(b"the wrong bytes")
    version_before = vendor.version("timestamp")
    with (
        pytest.raises(DigestMismatchError),
        vendor.repository.edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.add_release(release)
    assert vendor.version("timestamp") == version_before
    assert not (vendor.trust / "blobs/sha256" / layer).exists()


def test_only_what_changed_is_read(vendor: Vendor) -> None:
    """Another application's role may be damaged: it is not this edit's business."""
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(VALVE, [key("ci").public_key], policy=OPEN)
    (vendor.trust / "metadata/1.acme.valve.json").write_bytes(b"damaged")
    vendor.publish("1.0.0")
    assert vendor.version("acme.pump-monitor") == 2


# --- publishers ----------------------------------------------------------------------


def test_adding_a_publisher_twice_changes_nothing(vendor: Vendor) -> None:
    vendor.profile = "standard"
    repository = vendor.create()
    for expected in (True, False):
        with repository.edit([*vendor.keys, key("acme")], clock=vendor.clock) as edit:
            keys = [key("acme").public_key]
            assert edit.add_publisher("acme", keys, threshold=1) is expected
    assert vendor.version("targets") == 2
    with (
        pytest.raises(RefusedError, match="acme exists with other keys"),
        repository.edit(vendor.keys, clock=vendor.clock) as edit,
    ):
        edit.add_publisher("acme", [key("B").public_key], threshold=1)


def test_two_publishers_share_no_name(vendor: Vendor) -> None:
    vendor.profile = "standard"
    repository = vendor.create()
    keys = [*vendor.keys, key("acme"), key("zeta")]
    with repository.edit(keys, clock=vendor.clock) as edit:
        for name in ("acme", "zeta"):
            edit.add_publisher(name, [key(name).public_key], threshold=1)
            edit.add_application(
                ReleaseName(name, "pump-monitor"), [key("ci").public_key], policy=OPEN
            )
    vendor.publish("1.0.0")
    with pytest.raises(NoMatchingVersionError):
        vendor.device().verify(ReleaseName("zeta", "pump-monitor"), ANY)
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"


def test_simple_has_no_publishers(vendor: Vendor) -> None:
    vendor.profile = "simple"
    repository = vendor.create()
    with repository.edit(vendor.keys, clock=vendor.clock) as edit:
        with pytest.raises(RefusedError, match="simple has no publishers"):
            edit.add_publisher("acme", [key("A").public_key], threshold=1)
        with pytest.raises(RefusedError, match="has no keys of its own"):
            edit.add_application(PUMP, [key("A").public_key], policy=OPEN)
        with pytest.raises(RefusedError, match="is acme's, not zeta's"):
            edit.add_application(ReleaseName("zeta", "x"), policy=OPEN)
        with pytest.raises(RefusedError, match="simple can't demand provenance"):
            edit.add_application(PUMP, policy=replace(OPEN, provenance="required"))


# --- applications --------------------------------------------------------------------


def test_an_application_of_an_unknown_publisher(vendor: Vendor) -> None:
    vendor.create()
    with (
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
        pytest.raises(RefusedError, match="there is no publisher zeta here"),
    ):
        edit.add_application(
            ReleaseName("zeta", "x"), [key("ci").public_key], policy=OPEN
        )


def test_the_offline_key_alone_adds_an_application(vendor: Vendor) -> None:
    """The CI's own key is elsewhere; its role is signed with the first release."""
    vendor.create()
    other = key("release")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(PUMP, [other.public_key], policy=OPEN)
    assert not (vendor.trust / "metadata/1.acme.pump-monitor.json").exists()
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"
    vendor.publish("1.0.0", keys=[other, key("ci")])
    assert vendor.version("acme.pump-monitor") == 1
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"


def test_adding_an_application_twice_changes_nothing(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        assert not edit.add_application(PUMP, [key("ci").public_key], policy=OPEN)
    assert vendor.files() == before


def test_an_offline_key_that_releases_is_warned_of(vendor: Vendor) -> None:
    vendor.create()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(PUMP, [key("offline").public_key], policy=OPEN)
    assert len(edit.warnings) == 1
    assert "of acme.pump-monitor is also an offline key" in edit.warnings[0]
    with (
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
        pytest.raises(RefusedError, match="so nothing that it signs can prove"),
    ):
        edit.add_application(
            VALVE,
            [key("offline").public_key],
            policy=replace(OPEN, provenance="required"),
        )


def test_provenance_that_is_demanded_from_now_on(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.set_policy(PUMP, replace(OPEN, provenance="required"))
    assert any("devices refuse 1.0.0 of" in one for one in edit.warnings)
    with pytest.raises(ProvenanceError, match="names no layout, which its publisher"):
        vendor.device().verify(PUMP, ANY)
    with pytest.raises(RefusedError, match="demands provenance, and no link of a step"):
        vendor.publish("1.1.0")


# --- keys ----------------------------------------------------------------------------


def test_rotation_and_no_return(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    old, new, newest = key("ci"), key("release-2"), key("release-3")
    keys = [*vendor.keys, new, newest]
    for one in (new, newest):
        with vendor.repository.edit(keys, clock=vendor.clock) as edit:
            assert edit.rotate_keys(PUMP.role, [one.public_key], threshold=1)
            assert not edit.rotate_keys(PUMP.role, [one.public_key], threshold=1)
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"
    with vendor.repository.edit(keys, clock=vendor.clock) as edit:
        for left in (old, new):
            keyid = left.public_key.keyid[:12]
            with pytest.raises(
                RefusedError, match=f"key {keyid} left the role acme.pu"
            ):
                edit.rotate_keys(PUMP.role, [left.public_key], threshold=1)
    with pytest.raises(IncompleteError, match=r"acme\.pump-monitor needs 1 more"):
        vendor.publish("1.1.0", keys=[old])


def test_a_rotated_role_needs_its_new_keys(vendor: Vendor) -> None:
    vendor.create_with_pump()
    before = vendor.files()
    with (
        vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit,
        pytest.raises(RefusedError, match=r"acme\.pump-monitor is not signed by 1 of"),
    ):
        edit.rotate_keys(PUMP.role, [key("release-2").public_key], threshold=1)
    assert vendor.files() == before


def test_rotation_of_a_publisher(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    with vendor.repository.edit(
        [*vendor.keys, key("acme-2")], clock=vendor.clock
    ) as edit:
        edit.rotate_keys("acme", [key("acme-2").public_key], threshold=1)
    delegations = vendor.signed("2.targets.json")["delegations"]
    assert list(delegations["keys"]) == [key("acme-2").public_key.keyid]
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.0.0"


def test_root_keys_are_no_edit(vendor: Vendor) -> None:
    vendor.create()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        with pytest.raises(
            RefusedError, match="the keys of snapshot stand in the root"
        ):
            edit.rotate_keys("snapshot", [key("A").public_key], threshold=1)
        with pytest.raises(RefusedError, match="there is no role zeta here"):
            edit.rotate_keys("zeta", [key("A").public_key], threshold=1)
        with pytest.raises(RefusedError, match="root is renewed by a root ceremony"):
            edit.refresh("root")
        with pytest.raises(RefusedError, match=r"there is no role zeta\.x here"):
            edit.refresh("zeta.x")


# --- publisher policies --------------------------------------------------------------


def test_epochs_never_fall(vendor: Vendor) -> None:
    vendor.create_with_pump()
    second = replace(OPEN, epoch=2, minimum_version=version("1.2.0"))
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        with pytest.raises(
            RefusedError, match=r"a higher epoch .* needs a minimum ver"
        ):
            edit.set_policy(PUMP, replace(OPEN, epoch=2))
        assert edit.set_policy(PUMP, second)
        assert edit.policy(PUMP) == second
        with pytest.raises(RefusedError, match="would fall from 2 to 1"):
            edit.set_policy(PUMP, OPEN)
        with pytest.raises(
            RefusedError, match=r"needs a minimum version above 1\.2\.0"
        ):
            edit.set_policy(PUMP, replace(second, epoch=3))
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        assert edit.policy(PUMP) == second
        assert not edit.set_policy(PUMP, second)


def test_policies_name_artifacts_that_exist(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    stranger = Digest.of(b"nobody's")
    real = vendor.release("1.0.0").artifact.digest
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        for policy in (
            replace(OPEN, downgrade_to=(stranger,)),
            replace(OPEN, reinstated=(Reinstatement(artifact=stranger, up_to=1),)),
        ):
            with pytest.raises(
                RefusedError, match="no release of acme/pump-monitor has"
            ):
                edit.set_policy(PUMP, policy)
        with pytest.raises(RefusedError, match=r"void withdrawals to come: .* at v2"):
            edit.set_policy(
                PUMP, replace(OPEN, reinstated=(Reinstatement(artifact=real, up_to=3),))
            )
        assert edit.set_policy(PUMP, replace(OPEN, downgrade_to=(real,)))


def test_policy_of_an_unknown_application(vendor: Vendor) -> None:
    vendor.create()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        with pytest.raises(RefusedError, match=r"there is no role acme\.valve here"):
            edit.set_policy(VALVE, OPEN)
        with pytest.raises(RefusedError, match="there is no application acme/valve"):
            edit.add_release(vendor.release("1.0.0", name=VALVE))
        assert edit.policy(VALVE) is None
        assert edit.releases(VALVE) == {}


# --- releases ------------------------------------------------------------------------


def test_below_the_minimum(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=version("1.2.0")))
    with pytest.raises(RefusedError, match=r"1\.1\.9 is below the publisher's minimum"):
        vendor.publish("1.1.9")
    vendor.publish("1.2.0")


def test_one_release_per_precedence(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0+a")
    before = vendor.files()
    with pytest.raises(
        RefusedError, match=r"1\.0\.0\+a exists, and 1\.0\.0\+b has the"
    ):
        vendor.publish("1.0.0+b")
    assert vendor.files() == before


def test_withdraw_and_use_instead(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0", "1.1.0")
    store = vendor.store()
    assert str(vendor.device(store).verify(PUMP, ANY).version) == "1.1.0"
    vendor.clock.advance(hours=1)
    vendor.withdraw("1.1.0", use=version("1.0.0"))
    with pytest.raises(WithdrawnError, match=r"1\.1\.0 is withdrawn: leaks") as caught:
        vendor.device(store).verify(PUMP, Pin.exact(version("1.1.0")))
    assert caught.value.use == "1.0.0"
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        found = edit.releases(PUMP)[version("1.1.0")].withdrawn
    assert found is not None
    assert found.since == vendor.clock.when
    vendor.clock.advance(hours=1)
    before = vendor.files()
    vendor.withdraw("1.1.0", use=version("1.0.0"))
    assert vendor.files() == before
    vendor.withdraw("1.1.0", reason="leaks a lot")
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        again = edit.releases(PUMP)[version("1.1.0")].withdrawn
    assert again is not None
    assert (again.since, again.reason, again.use) == (found.since, "leaks a lot", None)


def test_what_can_be_used_instead(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0", "1.1.0")
    vendor.withdraw("1.0.0")
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        for use in ("1.0.0", "1.1.0"):
            with pytest.raises(RefusedError, match=f"{use} can't be used instead of 1"):
                edit.withdraw(PUMP, version("1.1.0"), reason="leaks", use=version(use))
        with pytest.raises(RefusedError, match=r"there is no release acme/.* 3\.0\.0"):
            edit.withdraw(PUMP, version("3.0.0"), reason="leaks")


def test_withdrawn_bytes_do_not_come_back(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    vendor.withdraw("1.0.0")
    again = vendor.release("1.0.1", b"acme/pump-monitor 1.0.0")
    with (
        vendor.repository.edit([key("ci")], clock=vendor.clock) as edit,
        pytest.raises(RefusedError, match=r"of 1\.0\.0, which is withdrawn: leaks"),
    ):
        edit.add_release(again)
    done = vendor.publish("1.0.0")
    assert not done.changed
    assert done.warnings == ("acme/pump-monitor 1.0.0 is withdrawn, and stays so",)


def test_reinstatement(vendor: Vendor) -> None:
    """Offline: the policy says so; with the application's key the mark goes, too."""
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    store = vendor.store()
    vendor.withdraw("1.0.0")
    with pytest.raises(WithdrawnError):
        vendor.device(store).verify(PUMP, ANY)
    with (
        pytest.raises(IncompleteError, match="acme needs 1 more"),
        vendor.repository.edit([key("ci")], clock=vendor.clock) as edit,
    ):
        edit.reinstate(PUMP, version("1.0.0"))
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        assert edit.reinstate(PUMP, version("1.0.0"))
    assert str(vendor.device(store).verify(PUMP, ANY).version) == "1.0.0"
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        assert edit.releases(PUMP)[version("1.0.0")].withdrawn is None
        policy = edit.policy(PUMP)
        with pytest.raises(RefusedError, match=r"1\.0\.0 is not withdrawn"):
            edit.reinstate(PUMP, version("1.0.0"))
    assert policy is not None
    assert [one.up_to for one in policy.reinstated] == [3]


def test_reinstatement_while_the_release_key_is_elsewhere(vendor: Vendor) -> None:
    """The mark stays until the list is signed again, and must not count anew then."""
    vendor.create()
    release = key("release")
    with vendor.repository.edit([*vendor.keys, release], clock=vendor.clock) as edit:
        edit.add_application(PUMP, [release.public_key], policy=OPEN)
    vendor.publish("1.0.0", keys=[release, key("ci")])
    with vendor.repository.edit([release, key("ci")], clock=vendor.clock) as edit:
        edit.withdraw(PUMP, version("1.0.0"), reason="leaks")
    store = vendor.store()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.reinstate(PUMP, version("1.0.0"))
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        assert edit.releases(PUMP)[version("1.0.0")].withdrawn is not None
    pin = Pin.exact(version("1.0.0"))
    vendor.device(store).verify(PUMP, pin)
    vendor.publish("1.1.0", keys=[release, key("ci")])
    with vendor.repository.edit([], clock=vendor.clock) as edit:
        assert edit.releases(PUMP)[version("1.0.0")].withdrawn is None
    vendor.device(store).verify(PUMP, pin)
    # A withdrawal after that counts.
    with vendor.repository.edit([release, key("ci")], clock=vendor.clock) as edit:
        assert edit.withdraw(PUMP, version("1.0.0"), reason="leaks again")
    with pytest.raises(WithdrawnError, match="leaks again"):
        vendor.device(store).verify(PUMP, pin)


def test_in_simple_every_mark_is_looked_after(vendor: Vendor) -> None:
    """One role lists all applications: signing it must not renew another's mark."""
    vendor.profile = "simple"
    vendor.create_with_pump()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_application(VALVE, policy=OPEN)
        edit.add_release(vendor.release("1.0.0"))
        edit.add_release(vendor.release("1.0.0", name=VALVE))
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.withdraw(PUMP, version("1.0.0"), reason="leaks")
    store = vendor.store()
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.reinstate(PUMP, version("1.0.0"))
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.add_release(vendor.release("1.1.0", name=VALVE))
    vendor.device(store).verify(PUMP, ANY)


# --- time ----------------------------------------------------------------------------


def test_refresh(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.clock.advance(days=1)
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    assert edit.written is not None
    assert set(edit.written.roles) == {"snapshot", "timestamp"}
    assert edit.standing("timestamp")[1] == vendor.clock.when + timedelta(days=4)
    assert vendor.version("acme.pump-monitor") == 1
    snapshot = vendor.version("snapshot")
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh("timestamp")
    assert vendor.version("snapshot") == snapshot
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


@pytest.mark.parametrize("role", ["targets", "acme", "acme.pump-monitor"])
def test_refresh_of_a_role(vendor: Vendor, role: str) -> None:
    vendor.create_with_pump()
    before = vendor.version(role)
    vendor.clock.advance(days=3)
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        edit.refresh(role)
    assert vendor.version(role) == before + 1
    period = timedelta(days=180 if "." in role else 365)
    assert edit.standing(role)[1] == vendor.clock.when + period


def test_an_expired_repository_comes_back(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    vendor.clock.advance(days=20)  # timestamp and snapshot are long expired
    with pytest.raises(ExpiredError):
        vendor.device().verify(PUMP, ANY)
    with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
    vendor.device().verify(PUMP, ANY)


def test_an_expired_application_comes_back(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    for _ in range(10):
        vendor.clock.advance(days=20)
        with vendor.repository.edit([key("ci")], clock=vendor.clock) as edit:
            edit.refresh()
    with pytest.raises(ExpiredError, match=r"acme\.pump-monitor v2 expired"):
        vendor.device().verify(PUMP, ANY)
    vendor.publish("1.1.0")
    assert str(vendor.device().verify(PUMP, ANY).version) == "1.1.0"


def test_an_expired_publisher_must_be_renewed_first(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.clock.advance(days=400)
    before = vendor.files()
    with pytest.raises(ExpiredError, match=r"targets v1 expired") as caught:
        vendor.publish("1.0.0", time_checked=True)
    assert caught.value.hint == (
        "nothing was written: a fresh device would refuse the result"
    )
    assert vendor.files() == before


@pytest.mark.parametrize(
    ("by", "text"),
    [
        (timedelta(seconds=-1), "which is before the last signature here"),
        (
            timedelta(days=30, seconds=1),
            "which is more than 30 days after the last one",
        ),
        (timedelta(days=300), "which is more than 30 days after the last one"),
    ],
)
def test_a_wrong_clock_signs_nothing(vendor: Vendor, by: timedelta, text: str) -> None:
    vendor.create_with_pump()
    vendor.clock.when += by
    before = vendor.files()
    with pytest.raises(ClockError, match=text) as caught:
        vendor.publish("1.0.0")
    assert "--time-checked" in str(caught.value.hint)
    assert vendor.files() == before


def test_a_checked_clock_signs(vendor: Vendor) -> None:
    vendor.create_with_pump()
    vendor.clock.advance(days=31)
    vendor.publish("1.0.0", time_checked=True)
    vendor.device().verify(PUMP, ANY)


@pytest.mark.parametrize("ahead", [29, 300])
def test_time_does_not_go_back_for_devices(vendor: Vendor, ahead: int) -> None:
    """A machine that was ahead has signed; a checked clock goes on from its time."""
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    store = vendor.store("device")
    vendor.clock.advance(days=ahead)
    keys = [key("ci")]
    with vendor.repository.edit(keys, clock=vendor.clock, time_checked=True) as edit:
        edit.refresh()
        edit.refresh(PUMP.role)
    vendor.device(store).verify(PUMP, ANY)
    vendor.clock.advance(days=-ahead)
    with pytest.raises(ClockError, match="before the last signature here"):
        vendor.publish("1.1.0")
    problems = [
        one.problem
        for one in vendor.repository.status(
            within=timedelta(days=1), clock=vendor.clock
        )
        if one.problem
    ]
    assert len(problems) == 1
    assert f"signed by a clock {ahead}.0 days ahead" in problems[0]
    report = vendor.repository.check(clock=vendor.clock)
    assert [one.rule for one in report.violations] == ["clock"]
    vendor.publish("1.1.0", time_checked=True)
    with vendor.repository.edit(keys, clock=vendor.clock, time_checked=True) as edit:
        edit.withdraw(PUMP, version("1.1.0"), reason="leaks")
    for device in (vendor.device(), vendor.device(store)):
        assert str(device.verify(PUMP, ANY).version) == "1.0.0"
    # What people read says when it was.
    record = vendor.repository
    with record.edit((), clock=vendor.clock, time_checked=True) as edit:
        assert edit.record(PUMP, version("1.1.0")).created == vendor.clock.when
        mark = edit.releases(PUMP)[version("1.1.0")].withdrawn
        assert mark is not None
        assert mark.since == vendor.clock.when
    # Without the machine that was ahead, time catches up.
    vendor.clock.advance(days=ahead, hours=1)
    vendor.publish("1.2.0")
    assert vendor.repository.check(clock=vendor.clock).verdict == "verified"


# --- the author's memory -------------------------------------------------------------


def test_the_memory_sees_an_old_copy(vendor: Vendor) -> None:
    """Somebody put last week's timestamp back: the author does not build on it."""
    vendor.create_with_pump()
    memory = vendor.store()
    vendor.publish("1.0.0", state=memory)
    old = (vendor.trust / "metadata/timestamp.json").read_bytes()
    vendor.publish("1.1.0", state=memory)
    (vendor.trust / "metadata/timestamp.json").write_bytes(old)
    before = vendor.files()
    with pytest.raises(RollbackError, match="timestamp v3 is older than trusted v4"):
        vendor.publish("1.2.0", state=memory)
    assert vendor.files() == before
    # Without a memory nobody can tell.
    vendor.publish("1.2.0")


def test_the_memory_moves_on(vendor: Vendor) -> None:
    vendor.create_with_pump()
    memory = vendor.store()
    vendor.publish("1.0.0", state=memory)
    assert memory.status().timestamp == 3
    vendor.publish("1.1.0")
    vendor.publish("1.1.0", state=memory)  # nothing new, and yet seen
    assert memory.status().timestamp == 4
    assert memory.status().snapshot == 4
    vendor.publish("1.2.0", state=memory)
    assert memory.status().timestamp == 5
    vendor.device(memory).refresh()


def test_unsigned_changes_are_not_built_upon(vendor: Vendor) -> None:
    """Whoever can write the directory, and holds no key, changes the timestamp."""
    vendor.create_with_pump()
    path = vendor.trust / "metadata/timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version":2', b'"version":9'))
    before = vendor.files()
    with pytest.raises(ThresholdError, match="timestamp v9 has 0 of 1 required"):
        vendor.publish("1.0.0")
    assert vendor.files() == before


def test_unknown_application_at_the_device(vendor: Vendor) -> None:
    vendor.create_with_pump()
    with pytest.raises(UnknownTargetError):
        vendor.device().verify(VALVE, ANY)
