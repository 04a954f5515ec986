"""Mallory has an online key of an operator, and may push and remove tags in his
registry. Their bytes are still there by digest, or in the author's memory: a ceremony
puts their tags back, so that devices find what the new root's keys sign."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import SupplyChainError
from margo_supplychain.verify.limits import Limits
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring import thief
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.tagged import TRUST, TaggedVendor
from tests.authoring.trust import key

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

    from margo_supplychain.authoring.written import Written
    from margo_supplychain.verify.verifier import Verifier


@pytest.fixture
def operator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    found = TaggedVendor(tmp_path)
    found.create_with_pump()
    found.move()
    found.registry.install(monkeypatch)
    found.publish_there(found.release("1.0.0"))
    return found


def memory_of(operator: TaggedVendor) -> TrustStore:
    return TrustStore.create(
        operator.directory / "author",
        root=operator.root,
        publishers=frozenset({"acme"}),
    )


def device(operator: TaggedVendor) -> Verifier:
    """Return a device that has refreshed."""
    store = TrustStore.unsafe_without_memory(root=operator.root, publishers=None)
    found = operator.device_there(store)
    found.refresh()
    return found


def steal_timestamp(operator: TaggedVendor) -> None:
    """Write a timestamp that names a snapshot which does not exist."""
    sink = operator.registry.place().shelf
    path = operator.trust / "metadata/timestamp.json"
    path.write_bytes(sink.metadata("timestamp.json", limit=1 << 20))
    now = operator.signed("timestamp.json")
    now["version"] = thief.HIGHEST
    now["meta"]["snapshot.json"] = thief.entry(thief.HIGHEST, b"there is none")
    sink.put_metadata("timestamp.json", thief.signed_as("timestamp", now, "ci"))


def remove_tags(operator: TaggedVendor, *names: str) -> None:
    tags = operator.registry.at(TRUST).tags
    for name in names:
        del tags[name]


def adopted(
    operator: TaggedVendor, state: TrustStore | None = None, **changes: Any
) -> Written:
    there = operator.at_registry()
    root = signed_root(there, ["offline"], clock=operator.clock, state=state, **changes)
    return there.adopt_root(root, [key("ts-2")], clock=operator.clock, state=state)


def sound(operator: TaggedVendor) -> None:
    assert operator.at_registry().check(clock=operator.clock).violations == ()


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp")])
@pytest.mark.parametrize("tag", ["3.acme.pump-monitor", "2.acme", "1.targets"])
def test_tag_of_a_role_is_removed(
    operator: TaggedVendor, roles: tuple[str, ...], tag: str
) -> None:
    """The new list names what has no tag: it is put back before that is published."""
    operator.publish_there(operator.release("1.1.0"))
    plant = device(operator)
    assert operator.newest_there() == "1.1.0"  # sane
    steal_timestamp(operator)
    remove_tags(operator, tag)
    with pytest.raises(SupplyChainError):
        device(operator)
    changes: dict[str, Any] = dict.fromkeys(roles, keys_of("ts-2"))
    adopted(operator, **changes)
    assert tag in operator.registry.at(TRUST).tags
    assert operator.newest_there() == "1.1.0"
    plant.refresh()
    sound(operator)


@pytest.mark.parametrize("hides_witness", [False, True])
def test_newest_snapshot_is_hidden(operator: TaggedVendor, hides_witness: bool) -> None:
    """A witness leads to its digest, or the author's memory has it."""
    author = memory_of(operator)
    operator.publish_there(operator.release("1.1.0"), state=author)
    plant = device(operator)
    assert operator.newest_there() == "1.1.0"  # sane
    tags = operator.registry.at(TRUST).tags
    newest = max(
        int(one.partition(".")[0]) for one in tags if one.endswith(".snapshot")
    )
    steal_timestamp(operator)
    remove_tags(operator, f"{newest}.snapshot")
    if hides_witness:
        remove_tags(operator, f"{newest}.timestamp")
    with pytest.raises(SupplyChainError):
        device(operator)
    adopted(operator, author, timestamp=keys_of("ts-2"))
    assert f"{newest}.snapshot" in tags
    assert operator.newest_there() == "1.1.0"
    plant.refresh()
    sound(operator)


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp")])
def test_newest_snapshot_is_hidden_from_who_remembers_nothing(
    operator: TaggedVendor, roles: tuple[str, ...]
) -> None:
    """Nobody can tell that it was published; the role that it listed is named."""
    operator.publish_there(operator.release("1.1.0"))
    assert operator.newest_there() == "1.1.0"  # sane
    steal_timestamp(operator)
    remove_tags(operator, "4.snapshot", "4.timestamp")
    with pytest.raises(SupplyChainError):
        device(operator)
    changes: dict[str, Any] = dict.fromkeys(roles, keys_of("ts-2"))
    done = adopted(operator, **changes)
    told = "acme.pump-monitor v3 lies there, signed by its keys, and no list that is"
    assert any(one.startswith(told) for one in done.warnings)
    assert operator.newest_there() == "1.0.0"
    sound(operator)


def test_next_root_is_taken_by_what_is_too_large(operator: TaggedVendor) -> None:
    """Devices stop there: the root that takes her key away is written over it."""
    plant = device(operator)
    assert operator.newest_there() == "1.0.0"  # sane
    there = operator.at_registry()
    root = signed_root(there, ["offline"], clock=operator.clock)
    junk = b"x" * (Limits().root + 1)
    operator.registry.place().shelf.put_metadata("2.root.json", junk)
    with pytest.raises(SupplyChainError):
        device(operator)
    there.adopt_root(root, operator.keys, clock=operator.clock)
    assert operator.newest_there() == "1.0.0"
    plant.refresh()
    sound(operator)
