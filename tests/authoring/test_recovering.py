"""What a new root goes on from when some of what it needs is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import IncompleteError, RefusedError, ThresholdError
from margo_supplychain.formats.pins import Pin
from tests.authoring import thief
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
    vendor.publish("1.1.0")
    return vendor


def newest(vendor: Vendor, store: TrustStore | None = None) -> str:
    return str(vendor.device(store).verify(PUMP, ANY).version)


def sound(vendor: Vendor, store: TrustStore | None = None) -> None:
    report = vendor.repository.check(clock=vendor.clock, state=store)
    assert report.violations == ()


def replaced(
    vendor: Vendor, keys: list[str], state: TrustStore | None = None, **changes: Any
) -> Written:
    root = signed_root(
        vendor.repository, ["offline"], clock=vendor.clock, state=state, **changes
    )
    return vendor.repository.adopt_root(
        root, [key(one) for one in keys], clock=vendor.clock, state=state
    )


def online(vendor: Vendor, state: TrustStore | None = None) -> Written:
    new = keys_of("ci-2")
    return replaced(vendor, ["ci-2"], state, snapshot=new, timestamp=new)


def gone(vendor: Vendor, pattern: str) -> None:
    """Remove files of the repository."""
    found = list(vendor.trust.glob(pattern))
    assert found
    for path in found:
        path.unlink()


@pytest.mark.parametrize(
    ("role", "keys"),
    [
        ("targets", ["new", "ci"]),
        ("snapshot", ["new", "ci"]),
        ("timestamp", ["new"]),
    ],
)
def test_each_role_that_a_killed_run_left_behind(
    filled: Vendor, role: str, keys: list[str]
) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    changes: dict[str, Any] = {role: keys_of("new")}
    root = signed_root(filled.repository, ["offline"], clock=filled.clock, **changes)
    (filled.trust / "metadata/2.root.json").write_bytes(root.data)
    with pytest.raises(ThresholdError):
        newest(filled, device)
    found = filled.repository.check(clock=filled.clock).violations
    assert f"root v2 is published, and {role} is not signed for it" in found[-1].text
    with (
        pytest.raises(IncompleteError, match=f"{role} needs 1 more"),
        filled.repository.edit([key("offline")], clock=filled.clock) as edit,
    ):
        edit.refresh()
    done = filled.repository.adopt_root(
        root, [key(one) for one in keys], clock=filled.clock
    )
    assert "timestamp" in done.roles
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, device)


def test_every_snapshot_is_gone(filled: Vendor) -> None:
    """The roles lie there, signed: the newest that its delegator's keys signed."""
    device = filled.store("device/state")
    newest(filled, device)
    gone(filled, "metadata/*.snapshot.json")
    done = online(filled)
    assert done.roles["snapshot"][0] == 1
    assert any("no list that can be read" in one for one in done.warnings)
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, device)


def test_every_timestamp_is_gone(filled: Vendor) -> None:
    device = filled.store("device/state")
    newest(filled, device)
    gone(filled, "metadata/timestamp.json")
    gone(filled, "authoring/previous-timestamp.json")
    online(filled)
    assert newest(filled, device) == newest(filled) == "1.1.0"
    sound(filled, device)


def test_nothing_is_left(filled: Vendor) -> None:
    gone(filled, "metadata/*.snapshot.json")
    gone(filled, "metadata/timestamp.json")
    gone(filled, "authoring/previous-timestamp.json")
    before = filled.files()
    with pytest.raises(RefusedError, match="has no snapshot or timestamp that the"):
        online(filled)
    assert filled.files() == before


def test_no_targets_are_left(filled: Vendor) -> None:
    gone(filled, "metadata/*.targets.json")
    before = filled.files()
    with pytest.raises(RefusedError, match="has no targets that the keys of root v2"):
        online(filled)
    assert filled.files() == before


def test_the_memory_has_what_the_place_lost(filled: Vendor) -> None:
    author = filled.store("author/state")
    filled.publish("1.2.0", state=author)
    device = filled.store("device/state")
    newest(filled, device)
    gone(filled, "metadata/*.snapshot.json")
    gone(filled, "metadata/timestamp.json")
    gone(filled, "metadata/*.acme.pump-monitor.json")
    online(filled, author)
    assert newest(filled, device) == newest(filled) == "1.2.0"
    sound(filled, author)


def test_a_role_that_is_nowhere_is_left_out(filled: Vendor) -> None:
    """It costs its own application alone, and its holder publishes again."""
    gone(filled, "metadata/*.acme.pump-monitor.json")
    done = online(filled)
    (told,) = (one for one in done.warnings if one.startswith("snapshot listed"))
    assert told == (
        "snapshot listed acme.pump-monitor v3, and nothing that its keys signed is "
        "there: it is left out, and its holder publishes again"
    )
    filled.device().refresh()
    filled.publish("2.0.0", keys=[key("ci"), key("ci-2")])
    assert newest(filled) == "2.0.0"
    sound(filled)


def test_a_key_that_was_taken_away_lists_nothing(filled: Vendor) -> None:
    """The application's key was stolen with the online keys, and is cut off before:
    what only it signed is not made good by the recovery."""
    with filled.repository.edit(filled.keys, clock=filled.clock) as edit:
        edit.cut_off_keys("acme.pump-monitor", [key("app-2").public_key], threshold=1)
    thief.write(filled, thief.forge(filled))
    online(filled)
    with pytest.raises(ThresholdError):
        newest(filled)
    filled.publish("1.2.0", keys=[key("app-2"), key("ci-2")])
    assert newest(filled) == "1.2.0"
    sound(filled)
