"""What delegators sign beside their delegations: keys that left, and roles cut off."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tuf.api.metadata import MetaFile, Root, Targets

from margo_supplychain import threshold
from margo_supplychain.authoring import delegator_fields as fields
from margo_supplychain.authoring import history
from margo_supplychain.authoring.delegator_fields import (
    CUT_OFF,
    LEFT,
    MOST_LEFT,
    MOST_LEFT_BYTES,
    CutOff,
    cut_off,
    cut_off_at,
    forget_cut_off,
    forget_left,
    is_awaited,
    known_left,
    left_in_order,
    left_keys,
    left_size,
    needed_files,
    newest_of,
    note_cut_off,
    note_left,
    removed_roles,
)
from margo_supplychain.authoring.delegator_room import (
    KEPT_FREE,
    MOST_APPLICATIONS,
    MOST_WEIGHT,
)
from margo_supplychain.authoring.history import require_no_return
from margo_supplychain.authoring.plan import MAX_KEYS, RoleKeys
from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.errors import FetchError, MetadataFormatError, RefusedError
from tests.authoring.marketplace import public
from tests.world import Files, MemorySource

ONE, TWO = "1" * 64, "2" * 64


def file(version: int, digest: str = ONE) -> MetaFile:
    return MetaFile(version=version, length=7, hashes={"sha256": digest})


def saying(name: str, value: object) -> Targets:
    return Targets(unrecognized_fields={name: value})


def test_keys_that_left_are_gathered() -> None:
    targets = Targets()
    note_left(targets, {})
    assert LEFT not in targets.unrecognized_fields
    note_left(targets, {"zeta": [TWO], "acme": [ONE]})
    note_left(targets, {"acme": [TWO], "bolt": []})
    assert targets.unrecognized_fields[LEFT] == {
        "acme": [ONE, TWO],
        "bolt": [],
        "zeta": [TWO],
    }
    assert left_keys(targets)["acme"] == {ONE, TWO}
    assert removed_roles(targets) == {"acme", "bolt", "zeta"}
    assert left_keys(Root()) == {}
    assert removed_roles(Root(unrecognized_fields={LEFT: {"acme": []}})) == set()


def test_of_too_many_keys_the_oldest_are_forgotten() -> None:
    many = [f"{one:064x}" for one in range(MOST_LEFT + 9)]
    targets = Targets()
    assert note_left(targets, {"acme": many[:9]}) == {}
    assert note_left(targets, {"acme": many[9:-9]}) == {}
    assert note_left(targets, {"acme": many[-9:], "bolt": [ONE]}) == {"acme": 9}
    assert left_in_order(targets) == {"acme": tuple(many[9:]), "bolt": (ONE,)}
    # What older versions wrote is shortened when more is noted.
    targets = saying(LEFT, {"acme": [f"{one:064x}" for one in range(20_000)]})
    assert note_left(targets, {"acme": [ONE]}) == {"acme": 20_001 - MOST_LEFT}
    assert left_in_order(targets)["acme"][-1] == ONE
    forget_left(targets, "bolt")
    forget_left(targets, "acme")
    assert LEFT not in targets.unrecognized_fields


def test_of_too_much_those_with_most_keys_forget_first() -> None:
    keys = {f"r{one}": [f"{two:064x}" for two in range(9)] for one in range(9)}
    keys["few"] = [ONE, TWO]
    room = left_size(keys, most=3)
    found = newest_of(keys, room)
    assert found["few"] == (ONE, TWO)
    assert found["r0"] == tuple(keys["r0"][-3:])
    assert left_size(found) <= room
    assert {len(one) for one in newest_of(keys, 1).values()} == {1}


def test_all_that_may_be_written_can_be_read() -> None:
    """And all keys that can leave a role at once are noted, of however many roles."""
    name = "p" * 64 + "." + "a" * 64
    most = {name: [ONE] * MAX_KEYS}
    assert left_size(most) * MOST_APPLICATIONS <= MOST_LEFT_BYTES
    meta = MetaFile(version=2**53 - 1, length=2**53 - 1, hashes={"sha256": ONE})
    targets = Targets()
    note_cut_off(targets, name, CutOff(meta, meta))
    entry = len(json.dumps(targets.unrecognized_fields[CUT_OFF]))
    said = MOST_LEFT_BYTES + MOST_WEIGHT + entry * MOST_APPLICATIONS
    assert said < LIMITS.targets - (64 << 10)  # signatures
    assert KEPT_FREE * MOST_APPLICATIONS < MOST_WEIGHT * 9 // 10
    assert MOST_LEFT < fields.MAX_LEFT // 10


def test_a_role_that_is_cut_off() -> None:
    targets = Targets()
    assert cut_off(targets, "acme") is None
    forget_cut_off(targets, "acme")
    note_cut_off(targets, "acme", CutOff(file(4), file(3, TWO)))
    note_cut_off(targets, "bolt", CutOff(file(2), None))
    assert cut_off(targets, "acme") == CutOff(file(4), file(3, TWO))
    assert cut_off_at(targets, "acme") == file(3, TWO)
    assert cut_off(targets, "bolt") == CutOff(file(2), None)
    assert cut_off_at(targets, "bolt") is None
    assert cut_off_at(targets, "zeta") is None
    assert needed_files(targets) == {"acme": 3}
    assert is_awaited(targets, "acme", file(4))
    assert not is_awaited(targets, "acme", file(4, TWO))
    assert not is_awaited(targets, "zeta", file(4))
    forget_cut_off(targets, "acme")
    assert cut_off(targets, "acme") is None
    forget_cut_off(targets, "bolt")
    assert CUT_OFF not in targets.unrecognized_fields


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([], "targets.x-left is a list, not an object"),
        ({"acme": ONE}, "x-left.acme is a string, not a list"),
        ({"acme": [ONE[1:]]}, "is not 64 hexadecimal digits"),
        ({"acme": [ONE.replace("1", "A")]}, "is not 64 hexadecimal digits"),
        ({"acme": [ONE] * 3}, "has 3 entries, more than 2"),
        ({str(one): [] for one in range(5)}, "has 5 entries, more than 4"),
    ],
)
def test_keys_that_left_are_read_strictly(
    monkeypatch: pytest.MonkeyPatch, value: object, text: str
) -> None:
    monkeypatch.setattr(fields, "MAX_LEFT", 2)
    monkeypatch.setattr(fields, "MAX_ROLES", 4)
    targets = saying(LEFT, value)
    with pytest.raises(MetadataFormatError, match=text):
        left_keys(targets)
    with pytest.raises(MetadataFormatError, match=text):
        note_left(targets, {"bolt": []})
    assert known_left(targets) == {}
    assert removed_roles(targets) == set()


def entry(**changes: Any) -> dict[str, Any]:
    return {**file(3).to_dict(), **changes}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "x-cut-off is an integer, not an object"),
        ({"acme": []}, "acme is a list, not an object"),
        ({"acme": {}}, "has no field 'listed'"),
        ({"acme": {"listed": entry(), "more": 1}}, "has unknown field 'more'"),
        ({"acme": {"listed": entry(more=1)}}, "has unknown field 'more'"),
        ({"acme": {"listed": entry(version=0)}}, "listed is v0 with 7 bytes"),
        ({"acme": {"listed": entry(length=0)}}, "listed is v3 with 0 bytes"),
        ({"acme": {"listed": entry(version=True)}}, "version is true, not an integ"),
        ({"acme": {"listed": entry(hashes={"sha512": ONE})}}, "no field 'sha256'"),
        ({"acme": {"listed": entry(), "last": entry(version=-1)}}, "last is v-1 with"),
    ],
)
def test_roles_that_are_cut_off_are_read_strictly(value: object, text: str) -> None:
    targets = saying(CUT_OFF, value)
    with pytest.raises(MetadataFormatError, match=text):
        cut_off(targets, "acme")
    assert not is_awaited(targets, "acme", file(3))
    assert needed_files(targets) == {}


# --- history -------------------------------------------------------------------------


def test_looking_back_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thief of a role's key may have left out a million versions."""
    monkeypatch.setattr(history, "MOST_READ", 3)
    keys = RoleKeys(keys=(public("acme"),))
    source = MemorySource(Files())
    require_no_return(source, "acme", keys, now=None, newest=2**52)
    numbers = [int(name.partition(".")[0]) for name in source.asked]
    assert numbers == [2**52, 2**52 - 1, 2**52 - 2, 3, 2, 1]
    source.asked.clear()
    require_no_return(source, "acme", keys, now=None, newest=5)
    assert len(source.asked) == 5
    source.asked.clear()
    require_no_return(
        source, "acme", keys, now=None, newest=2**52, versions=(4, 9, 2**52 + 1)
    )
    assert source.asked == ["9.targets.json", "4.targets.json"]


def test_nobody_answers_who_could_know() -> None:
    keys = RoleKeys(keys=(public("acme"),))
    source = MemorySource(Files())
    source.down = True
    with pytest.raises(FetchError, match="the wire is cut"):
        require_no_return(source, "acme", keys, now=None, newest=1)


def test_what_the_delegator_says_is_enough() -> None:
    keys = RoleKeys(keys=(public("acme"),))
    source = MemorySource(Files())
    left = {threshold.material(public("acme"))}
    with pytest.raises(RefusedError, match="left the role acme before"):
        require_no_return(source, "acme", keys, now=None, newest=1, left=left)
    assert source.asked == []
