"""Mallory has stolen the online keys of an operator, or writes where his repository is
served. One ceremony brings every device back, and takes nobody along into her state."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import (
    IncompleteError,
    MixAndMatchError,
    RefusedError,
    RollbackError,
    SupplyChainError,
    ThresholdError,
)
from margo_supplychain.formats.pins import Pin
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.trust import PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.verify.trust_store import TrustStore

ANY = Pin.range("*", grammar="npm")


@pytest.fixture
def operator(tmp_path: Path) -> Vendor:
    found = Vendor(tmp_path)
    found.create_with_pump()
    found.publish("1.0.0")
    found.publish("1.1.0")
    return found


def newest(operator: Vendor, store: TrustStore | None = None) -> str:
    return str(operator.device(store).verify(PUMP, ANY).version)


def replace_online(operator: Vendor, *, state: TrustStore | None = None) -> None:
    """Replace the online keys, which are not at hand any more."""
    new = keys_of("ci-2")
    root = signed_root(
        operator.repository,
        ["offline"],
        clock=operator.clock,
        state=state,
        snapshot=new,
        timestamp=new,
    )
    operator.repository.adopt_root(
        root, [key("ci-2")], clock=operator.clock, state=state
    )


def sound(operator: Vendor, store: TrustStore | None = None) -> None:
    report = operator.repository.check(clock=operator.clock, state=store)
    assert report.violations == ()


def test_versions_that_ran_away(operator: Vendor) -> None:
    """The highest versions there are: honest ones look old until the keys are replaced,
    and then count on from where they were sane."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    honest = {
        name: data
        for name, data in operator.files().items()
        if name == "metadata/timestamp.json"
    }
    files = thief.forge(operator)
    thief.write(operator, files)
    assert newest(operator, device) == "1.1.0"  # validly signed, so it is believed
    (operator.trust / "metadata/timestamp.json").write_bytes(
        honest["metadata/timestamp.json"]
    )
    with pytest.raises(RollbackError):
        newest(operator, device)
    replace_online(operator)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    assert operator.version("timestamp") < 10
    sound(operator, device)
    # The stolen key is worth nothing any more.
    thief.write(operator, files)
    with pytest.raises(ThresholdError):
        newest(operator, device)


def test_list_of_what_is_not_there(operator: Vendor) -> None:
    """Every role is listed in a version that nobody signed: the files that their own
    keys signed are found again, and no role begins anew."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    before = operator.version("acme"), operator.version("acme.pump-monitor")
    thief.write(operator, thief.forge(operator, change=thief.nonsense))
    with pytest.raises(SupplyChainError):
        newest(operator, device)
    replace_online(operator)
    assert before == (operator.version("acme"), operator.version("acme.pump-monitor"))
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, device)


@pytest.mark.parametrize("remembers", [False, True])
def test_old_list_before_a_rotation(operator: Vendor, remembers: bool) -> None:
    """A fresh device is led back to a release of yesterday, and floors fall with the
    keys that are replaced: what the rotation starts from must not be her list."""
    author = operator.store("author/state")
    with operator.repository.edit(
        [key("ci")], clock=operator.clock, state=author
    ) as edit:
        edit.refresh()
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    old = operator.signed("3.snapshot.json")["meta"]

    def roll_back(meta: dict[str, dict[str, Any]]) -> None:
        meta.update(old)

    thief.write(
        operator, thief.forge(operator, timestamp=30, snapshot=30, change=roll_back)
    )
    with pytest.raises(RollbackError):
        newest(operator, device)
    assert newest(operator) == "1.0.0"
    replace_online(operator, state=author if remembers else None)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, author)


def test_old_timestamp_after_a_rotation(operator: Vendor) -> None:
    """Mallory serves the timestamp from before the rotation: devices refuse it, nobody
    without the new keys signs on top of it, and who has them does not go back."""
    device = operator.store("device/state")
    before = (operator.trust / "metadata/timestamp.json").read_bytes()
    replace_online(operator)
    operator.publish("1.2.0", keys=[key("ci"), key("ci-2")])
    assert newest(operator, device) == "1.2.0"  # sane
    thief.write(operator, {"timestamp.json": before})
    with pytest.raises(ThresholdError):
        newest(operator, device)
    with (
        pytest.raises(IncompleteError, match="is not signed for it yet"),
        operator.repository.edit([key("ci")], clock=operator.clock) as edit,
    ):
        edit.refresh()
    with operator.repository.edit([key("ci-2")], clock=operator.clock) as edit:
        edit.refresh()
    assert newest(operator, device) == newest(operator) == "1.2.0"
    sound(operator, device)


def hidden(operator: Vendor) -> None:
    (operator.trust / "metadata/2.root.json").unlink()


def overwritten(operator: Vendor) -> None:
    shutil.copy(
        operator.trust / "metadata/1.root.json",
        operator.trust / "metadata/2.root.json",
    )


@pytest.mark.parametrize("damage", [hidden, overwritten])
def test_gap_in_the_chain(operator: Vendor, damage: Callable[[Vendor], None]) -> None:
    """A root is taken away: whoever is still on the one before would never see the
    next, so that is not published."""
    author = operator.store("author/state")
    root = signed_root(operator.repository, ["offline"], clock=operator.clock)
    operator.repository.adopt_root(root, clock=operator.clock, state=author)
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    third = signed_root(
        operator.repository, ["offline"], clock=operator.clock, state=author
    )
    second = (operator.trust / "metadata/2.root.json").read_bytes()
    damage(operator)
    before = operator.files()
    with pytest.raises((MixAndMatchError, RollbackError, RefusedError)):
        operator.repository.adopt_root(third, clock=operator.clock, state=author)
    assert operator.files() == before
    (operator.trust / "metadata/2.root.json").write_bytes(second)
    operator.repository.adopt_root(third, clock=operator.clock, state=author)
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, author)


def test_two_roots_of_one_version(operator: Vendor) -> None:
    """Two ceremonies end at once: who comes second would split the devices in two."""
    device = operator.store("device/state")
    assert newest(operator, device) == "1.1.0"  # sane
    ours = signed_root(
        operator.repository,
        ["offline", "r-1"],
        clock=operator.clock,
        root=keys_of("r-1"),
    )
    theirs = signed_root(
        operator.repository,
        ["offline", "r-2"],
        clock=operator.clock,
        root=keys_of("r-2"),
    )
    operator.repository.adopt_root(ours, clock=operator.clock)
    before = operator.files()
    with pytest.raises(RefusedError, match="has another root v2"):
        operator.repository.adopt_root(theirs, clock=operator.clock)
    assert operator.files() == before
    assert newest(operator, device) == newest(operator) == "1.1.0"
    sound(operator, device)
