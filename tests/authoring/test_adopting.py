"""A new root is adopted: alone, handed on by the keys before, or in their place."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    ExpiredError,
    IncompleteError,
    RefusedError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.trust import PUMP, Vendor, key

if TYPE_CHECKING:
    from margo_supplychain.authoring.written import Written
    from margo_supplychain.verify.trust_store import TrustStore

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


def adopt(
    vendor: Vendor,
    signers: list[str],
    keys: list[str],
    state: TrustStore | None = None,
    **changes: Any,
) -> Written:
    repository = vendor.repository
    root = signed_root(repository, signers, clock=vendor.clock, state=state, **changes)
    return repository.adopt_root(
        root, [key(one) for one in keys], clock=vendor.clock, state=state
    )


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    return str(vendor.device(store).verify(PUMP, ANY).version)


def sound(vendor: Vendor, store: TrustStore | None = None) -> None:
    report = vendor.repository.check(clock=vendor.clock, state=store)
    assert report.violations == ()


def test_a_renewed_root_is_written_alone(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    before = filled.files()
    filled.clock.advance(days=1)
    done = adopt(filled, ["offline"], [])
    assert set(done.roles) == {"root"}
    after = filled.files()
    assert set(after) - set(before) == {"metadata/2.root.json"}
    assert {name: after[name] for name in before} == before
    assert newest(filled) == newest(filled, device) == "1.0.0"
    sound(filled, device)


def test_every_root_key_replaced(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    new = keys_of("root-a", "root-b", "root-c", threshold=2)
    done = adopt(filled, ["offline", "root-a", "root-c"], [], root=new)
    assert set(done.roles) == {"root"}
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled, device)
    # The next one needs the new keys, and no old one.
    adopt(filled, ["root-b", "root-c"], [])
    assert newest(filled, device) == "1.0.0"
    sound(filled, device)


def test_online_keys_are_handed_on(filled: Vendor) -> None:
    device, author = filled.store("device/state"), filled.store("author/state")
    newest(filled, device)
    new = keys_of("ci-2")
    done = adopt(
        filled, ["offline"], ["ci", "ci-2"], author, snapshot=new, timestamp=new
    )
    assert set(done.roles) == {"root", "snapshot", "timestamp"}
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled, author)
    with pytest.raises(IncompleteError):
        filled.publish("1.1.0", keys=[key("ci")], state=author)
    filled.publish("1.1.0", keys=[key("ci"), key("ci-2")], state=author)
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, author)


def test_targets_keys_and_thresholds(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    new = keys_of("t-1", "t-2", "t-3", threshold=2)
    done = adopt(filled, ["offline"], ["offline", "ci", "t-1", "t-3"], targets=new)
    assert set(done.roles) == {"root", "targets", "snapshot", "timestamp"}
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled, device)


def test_keys_that_were_lost_are_replaced(filled: Vendor) -> None:
    device, author = filled.store("device/state"), filled.store("author/state")
    newest(filled, device)
    new = keys_of("ci-2")
    done = adopt(filled, ["offline"], ["ci-2"], author, snapshot=new, timestamp=new)
    assert set(done.roles) == {"root", "snapshot", "timestamp"}
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled, author)
    filled.publish("1.1.0", keys=[key("ci"), key("ci-2")], state=author)
    assert newest(filled, device) == "1.1.0"


def test_missing_keys_are_named_before_anything_is_written(filled: Vendor) -> None:
    before = filled.files()
    new = keys_of("ci-2")
    with pytest.raises(IncompleteError, match="snapshot needs 1 more"):
        adopt(filled, ["offline"], ["ci"], snapshot=new, timestamp=new)
    assert filled.files() == before


def test_an_expired_root_comes_back(filled: Vendor) -> None:
    device, author = filled.store("device/state"), filled.store("author/state")
    newest(filled, device)
    filled.clock.advance(days=800)
    root = signed_root(filled.repository, ["offline"], clock=filled.clock, state=author)
    filled.repository.adopt_root(
        root,
        filled.keys,
        clock=filled.clock,
        state=author,
        time_checked=True,
    )
    with filled.repository.edit(filled.keys, clock=filled.clock, state=author) as edit:
        edit.refresh("acme")
        edit.refresh("acme.pump-monitor")
    assert newest(filled, device) == newest(filled) == "1.0.0"
    sound(filled, author)


def test_the_same_root_again_changes_nothing(filled: Vendor) -> None:
    repository = filled.repository
    root = signed_root(repository, ["offline"], clock=filled.clock)
    repository.adopt_root(root, clock=filled.clock)
    before = filled.files()
    assert not repository.adopt_root(root, clock=filled.clock).roles
    assert filled.files() == before


def test_roots_that_do_not_follow(filled: Vendor) -> None:
    repository = filled.repository
    first = signed_root(repository, ["offline"], clock=filled.clock)
    filled.clock.advance(hours=1)
    other = signed_root(repository, ["offline"], clock=filled.clock)
    repository.adopt_root(first, clock=filled.clock)
    with pytest.raises(RefusedError, match="has another root v2"):
        repository.adopt_root(other, clock=filled.clock)
    second = signed_root(repository, ["offline"], clock=filled.clock)
    repository.adopt_root(second, clock=filled.clock)
    with pytest.raises(RefusedError, match="root v3 follows it"):
        repository.adopt_root(first, clock=filled.clock)


def test_the_window_is_named_and_any_edit_goes_on(filled: Vendor) -> None:
    """Killed between root and timestamp: devices refuse, and keep what they have."""
    device = filled.store("device/state")
    newest(filled, device)
    new = keys_of("ci-2")
    root = signed_root(
        filled.repository,
        ["offline"],
        clock=filled.clock,
        snapshot=new,
        timestamp=new,
    )
    (filled.trust / "metadata/2.root.json").write_bytes(root.data)
    with pytest.raises(ThresholdError):
        newest(filled, device)
    found = filled.repository.check(clock=filled.clock).violations
    assert found[-1].text == (
        "root v2 is published, and timestamp is not signed for it yet: run "
        "`margo-supplychain root finalize` again, or `margo-supplychain repo refresh`, "
        "with the keys that it names: it goes on"
    )
    with pytest.raises(ThresholdError) as caught:
        filled.repository.status(within=timedelta(0), clock=filled.clock)
    assert "root finalize" in str(caught.value.hint)
    with pytest.raises(IncompleteError, match="root v2 is published"):
        filled.publish("1.1.0", keys=[key("ci")])
    filled.publish("1.1.0", keys=[key("ci"), key("ci-2")])
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, device)


def test_what_is_published_between_two_attempts_stays(
    filled: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed before the root is there: what only its keys signed was never published,
    and somebody publishes with the old keys before the next attempt."""
    new = keys_of("ci-2")
    root = signed_root(
        filled.repository,
        ["offline"],
        clock=filled.clock,
        snapshot=new,
        timestamp=new,
    )

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("margo_supplychain.authoring.replacing.write_root", killed)
        with pytest.raises(KeyboardInterrupt):
            filled.repository.adopt_root(root, [key("ci-2")], clock=filled.clock)
    assert (filled.trust / "metadata/4.snapshot.json").exists()
    filled.publish("1.1.0")
    filled.repository.adopt_root(root, [key("ci-2")], clock=filled.clock)
    assert newest(filled) == "1.1.0"
    sound(filled)


@pytest.mark.parametrize("profile", ["standard", "simple"])
@pytest.mark.parametrize("keys", [["offline", "ci", "t", "o"], ["t", "o"]])
def test_every_profile(vendor: Vendor, profile: str, keys: list[str]) -> None:
    vendor.profile = profile
    if profile == "simple":
        vendor.create_with_pump()
        vendor.publish("1.0.0")
    else:
        vendor.create()
    device = vendor.store("device/state")
    vendor.device(device).refresh()
    new, online = keys_of("t"), keys_of("o")
    done = adopt(
        vendor, ["offline"], keys, targets=new, snapshot=online, timestamp=online
    )
    assert set(done.roles) == {"root", "targets", "snapshot", "timestamp"}
    assert bool(done.warnings) == (len(keys) == 2)
    vendor.device(device).refresh()
    vendor.device().refresh()
    if profile == "simple":
        assert newest(vendor, device) == newest(vendor) == "1.0.0"
    sound(vendor, device)


def test_a_publisher_who_has_expired_keeps_nobody_from_a_root(filled: Vendor) -> None:
    filled.clock.advance(days=181)  # as an application's role lasts
    with filled.repository.edit(
        filled.keys, clock=filled.clock, time_checked=True
    ) as edit:
        edit.refresh()
    assert set(adopt(filled, ["offline"], []).roles) == {"root"}
    with pytest.raises(ExpiredError):
        newest(filled)
