"""What a delegator remembers of keys that left, and how full a role may be.

Nothing of it is ever forgotten for good reasons; so a thief, or a vendor who is about
to be removed, fills it: until what is written can't be read any more, or until nobody
can take his keys away. What is written is always what is read, with room to spare, and
the oldest gives way."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain import threshold
from margo_supplychain.authoring import delegator_room
from margo_supplychain.authoring.delegator_fields import MOST_LEFT
from margo_supplychain.authoring.history import KeyHistory
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.publisher_policy import RevokedFunctionary
from margo_supplychain.formats.tuf_metadata import parse_targets
from tests.attacks.forging import (
    all_of,
    delegate,
    hand_in,
    note_leaving,
    refused,
    role,
    set_policy,
    sign,
)
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit
    from tests.attacks.forging import Change

ROUNDS = MOST_LEFT // 63 + 1


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def material(name: str) -> str:
    return threshold.material(key(name).public_key)


def left(market: Market, delegator: str, name: str = PUMP.role) -> list[str]:
    """Return the keys of which a delegator says that they left a role."""
    signed = market.signed(f"{market.version(delegator)}.{delegator}.json")
    found: list[str] = signed["x-left"][name]
    return found


def keys_of(number: int) -> list[str]:
    return [f"round-{number}-{one}" for one in range(63)]


def newest(keys: list[str]) -> list[str]:
    return keys[-MOST_LEFT:]


def rotate(
    number: int | None, *, kept: Callable[[list[str]], list[str]] = newest
) -> Change:
    """Return a change that gives acme/pump 63 keys beside its own, or none.

    Args:
        number: of the round; None for none.
        kept: which of the keys that left it are said, the oldest first.
    """
    staying = ["acme-ci", *([] if number is None else keys_of(number))]

    def change(signed: dict[str, Any]) -> None:
        known = signed.get("x-left", {}).get(PUMP.role, [])
        delegate(PUMP.role, *staying)(signed)
        used = {one for a in signed["delegations"]["roles"] for one in a["keyids"]}
        signed["delegations"]["keys"] = {
            keyid: one
            for keyid, one in signed["delegations"]["keys"].items()
            if keyid in used
        }
        if "x-left" in signed:
            said = signed["x-left"][PUMP.role]
            ordered = [*known, *(one for one in said if one not in known)]
            signed["x-left"][PUMP.role] = kept(ordered)

    return change


def fill(market: Market) -> list[str]:
    """Let many keys come and go, with acme's offline key; return what was told."""
    told: list[str] = []
    for number in (*range(ROUNDS), None):
        name = hand_in(market, role(market, "acme", rotate(number)))
        done = market.accept()
        assert [one.name for one in done.taken] == [name], done.refused
        told += done.warnings
    return told


def edit(market: Market, change: Any, *signers: str) -> Edit:
    """Change the repository by hand."""
    keys = [*market.keys, *map(key, signers)]
    with market.repository.edit(keys, clock=market.clock) as found:
        change(found)
    return found


# --- T-182: so many keys left that nobody can be removed or rotated ------------------


def test_vendor_who_is_removed_fills_the_operators_role(market: Market) -> None:
    """All that left acme/pump is noted in `targets` when acme is removed: everything
    that the operator does afterwards must be able to read it."""
    told = fill(market)
    assert any("acme v" in one and "are forgotten" in one for one in told)
    assert len(left(market, "acme")) == MOST_LEFT
    assert market.newest() == "1.0.0"

    edit(market, lambda one: one.remove_publisher("acme"))
    assert len(left(market, "targets")) == MOST_LEFT
    assert material("acme-ci") in left(market, "targets")  # the newest of all
    new, bolt = key("globex-2").public_key, key("bolt").public_key
    edit(market, lambda one: one.add_publisher("bolt", [bolt], threshold=1))
    edit(market, lambda one: one.cut_off_keys("globex", [new], threshold=1))
    edit(market, lambda one: one.refresh("globex"), "globex-2")
    assert market.repository.check(clock=market.clock).violations == ()
    assert market.newest(LAMP) == "1.0.0"


@pytest.mark.parametrize("how", ["rotate", "cut off", "remove"])
@pytest.mark.parametrize("is_handed_in", [False, True])
def test_key_that_can_not_be_taken_away(
    market: Market, how: str, *, is_handed_in: bool
) -> None:
    """After the thief the new holder of acme's role takes the stolen release key away,
    by either door."""
    fill(market)
    edit(
        market,
        lambda one: one.rotate_keys("acme", [key("acme-2").public_key], threshold=1),
        "acme-2",
    )
    new = [key("new").public_key]

    def take_away(one: Edit) -> None:
        if how == "remove":
            one.remove_application(PUMP)
        elif how == "rotate":
            one.rotate_keys(PUMP.role, new, threshold=1)
        else:
            one.cut_off_keys(PUMP.role, new, threshold=1)

    signers = ["acme-2", *(["new"] if how == "rotate" else [])]
    if is_handed_in:
        with market.submit(*signers) as found:
            take_away(found)
        done = market.accept()
        assert (len(done.taken), done.refused) == (1, ())
    else:
        found = edit(market, take_away, *signers)
    assert any("acme remembers of acme.pump" in one for one in found.warnings)
    assert len(left(market, "acme")) == MOST_LEFT
    assert left(market, "acme")[-1] == material("acme-ci")
    if how == "rotate":
        assert market.newest() == "1.0.0"

    # And it never comes back.
    old = [key("acme-ci").public_key]

    def give_back(one: Edit) -> None:
        if how == "remove":
            one.add_application(PUMP, old, policy=OPEN)
        else:
            one.cut_off_keys(PUMP.role, old, threshold=1)

    with pytest.raises(RefusedError, match=r"left the role acme\.pump before"):
        edit(market, give_back, "acme-2")


def test_memory_that_forgets_what_left_last(market: Market) -> None:
    """Where the memory is full, Mallory drops the newest of it and not the oldest; or
    nothing at all, so that it grows without end."""
    fill(market)
    hand_in(market, role(market, "acme", rotate(99)))
    assert len(market.accept().taken) == 1  # sane

    change = rotate(None, kept=lambda keys: keys[: MOST_LEFT - 63] + keys[-63:])
    name = hand_in(market, role(market, "acme", change))
    refused(market, name, "forgets that key", "left acme.pump (x-left, by material)")
    market.accept(discard=True)

    name = hand_in(market, role(market, "acme", rotate(None, kept=list)))
    refused(market, name, "keys that left acme.pump, 63 more than it may")
    market.accept(discard=True)

    hand_in(market, role(market, "acme", rotate(None)))
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["acme"]
    assert any("63 that left before are forgotten" in one for one in done.warnings)


def test_rotation_whose_history_takes_too_long(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thief leaves versions of acme's role that take hours to read: a key that leaves
    is taken away all the same, and what was not looked at is said."""
    for number in range(3):
        with market.submit("acme") as found:
            lost = (RevokedFunctionary(key=f"{number:064x}"),)
            found.set_policy(FAN, replace(OPEN, revoked_functionaries=lost))
        assert len(market.accept().taken) == 1
    new = [key("new").public_key]
    with market.submit("acme", "new") as found:
        found.rotate_keys(PUMP.role, new, threshold=1)
    ends = functools.partial(KeyHistory, most_time=0.0)
    with monkeypatch.context() as patched:
        patched.setattr("margo_supplychain.authoring.prospect.KeyHistory", ends)
        done = market.accept()
    assert (len(done.taken), done.refused) == (1, ())
    told = done.warnings
    assert any("whether a key returns to acme.pump is known" in one for one in told)
    assert market.newest() == "1.0.0"


# --- T-183: what stays for ever ------------------------------------------------------


def names(number: int) -> list[str]:
    return [f"fill-{number}-{one}" for one in range(5)]


def add(number: int) -> tuple[Change, dict[str, bytes]]:
    """Return a change that adds applications that nobody will publish."""
    changes, targets = [], dict[str, bytes]()
    for name in names(number):
        policy, files = set_policy(replace(PUMP, name=name), OPEN)
        changes += [policy, delegate(f"acme.{name}", "acme-ci")]
        targets |= files
    return all_of(*changes), targets


def drop(number: int, *, keeps: bool) -> Change:
    """Return a change that removes them again."""

    def change(signed: dict[str, Any]) -> None:
        for name in names(number):
            if keeps:
                note_leaving(signed, f"acme.{name}", set())
            else:
                del signed["targets"][f"acme/policies/{name}/1.json"]
            roles = signed["delegations"]["roles"]
            signed["delegations"]["roles"] = [
                one for one in roles if one["name"] != f"acme.{name}"
            ]

    return change


def test_applications_that_never_were_published(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acme adds applications and removes them, without ever signing a release: their
    policies and keys stay in a role that every device reads."""
    monkeypatch.setattr(delegator_room, "MOST_APPLICATIONS", 9)
    change, targets = add(0)
    hand_in(market, role(market, "acme", change), targets=targets)
    assert len(market.accept().taken) == 1  # sane
    hand_in(market, role(market, "acme", drop(0, keeps=True)))
    assert len(market.accept().taken) == 1

    change, targets = add(1)
    name = hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, name, "which makes 12 with those that were removed, more than 9")
    market.accept(discard=True)

    # What nobody ever saw may be dropped, and then there is room again.
    hand_in(
        market,
        role(
            market,
            "acme",
            lambda signed: [
                signed.pop("x-left"),
                *(
                    signed["targets"].pop(f"acme/policies/{one}/1.json")
                    for one in names(0)
                ),
            ],
        ),
    )
    assert len(market.accept().taken) == 1
    change, targets = add(1)
    hand_in(market, role(market, "acme", change), targets=targets)
    assert len(market.accept().taken) == 1
    hand_in(market, role(market, "acme", drop(1, keeps=False)))
    assert len(market.accept().taken) == 1
    assert market.repository.check(clock=market.clock).violations == ()


@pytest.mark.parametrize("is_handed_in", [False, True])
def test_our_tools_leave_nothing_of_them(market: Market, *, is_handed_in: bool) -> None:
    """To add and remove by the tools ends where it began; what was published stays."""
    before = market.signed(f"{market.version('acme')}.acme.json")
    one, ci = replace(PUMP, name="one"), [key("acme-ci").public_key]

    def run(change: Any) -> None:
        if is_handed_in:
            with market.submit("acme") as found:
                change(found)
            assert market.accept().refused == ()
        else:
            edit(market, change, "acme")

    run(lambda found: found.add_application(one, ci, policy=OPEN))
    run(lambda found: found.remove_application(one))
    after = market.signed(f"{market.version('acme')}.acme.json")
    assert {**after, "version": 0, "expires": ""} == {
        **before,
        "version": 0,
        "expires": "",
    }
    run(lambda found: found.remove_application(FAN))
    after = market.signed(f"{market.version('acme')}.acme.json")
    assert FAN.policy_path(1) in after["targets"]
    assert after["x-left"] == {FAN.role: [material("acme-ci")]}


@pytest.mark.parametrize("is_handed_in", [False, True])
def test_role_that_is_full(
    market: Market, monkeypatch: pytest.MonkeyPatch, *, is_handed_in: bool
) -> None:
    """Acme's role is filled until nothing more fits: keys are rotated, cut off and
    removed all the same, by either door."""
    signed = market.signed(f"{market.version('acme')}.acme.json")
    data = sign("acme", signed, ["acme"]).data
    weight = delegator_room.weight(
        parse_targets(data, role="acme", limit=len(data)).signed
    )
    monkeypatch.setattr(delegator_room, "MOST_WEIGHT", weight)
    assert weight > 2 * delegator_room.KEPT_FREE

    def stuff(said: dict[str, Any]) -> None:
        said["x-note"] = "a" * 100

    name = hand_in(market, role(market, "acme", stuff))
    refused(market, name, "lists and delegates takes", "devices read 16777216 of it")
    market.accept(discard=True)
    extra = replace(PUMP, name="extra")
    with pytest.raises(RefusedError, match="lists and delegates takes"):
        edit(
            market,
            lambda one: one.add_application(
                extra, [key("acme-ci").public_key], policy=OPEN
            ),
            "acme",
        )

    def run(change: Any, *signers: str) -> None:
        if is_handed_in:
            with market.submit("acme", *signers) as found:
                change(found)
            done = market.accept()
            assert (len(done.taken), done.refused) == (1, ())
        else:
            edit(market, change, "acme", *signers)

    several = [key(f"new-{one}").public_key for one in range(3)]
    run(lambda one: one.rotate_keys(PUMP.role, several, threshold=1), "new-0")
    run(lambda one: one.cut_off_keys(PUMP.role, [key("x").public_key], threshold=1))
    run(lambda one: one.remove_application(FAN))
    run(lambda one: one.refresh(PUMP.role), "x")
    assert market.newest() == "1.0.0"
    assert market.repository.check(clock=market.clock).violations == ()


# --- T-184: a key that stays is said to have left ------------------------------------


def test_key_that_stays_is_said_to_have_left(market: Market) -> None:
    """With acme's offline key Mallory notes that acme/pump's key left, and leaves it:
    nobody could give it back later, and nobody would know why."""
    mine = {PUMP.role: [material("acme-ci")]}
    name = hand_in(
        market, role(market, "acme", lambda said: said.update({"x-left": mine}))
    )
    refused(market, name, "left acme.pump, which has it (x-left, by material)")

    # It leaves in truth, and is noted.
    market.accept(discard=True)
    with market.submit("acme", "new") as found:
        found.rotate_keys(PUMP.role, [key("new").public_key], threshold=1)
    assert len(market.accept().taken) == 1
    assert left(market, "acme") == [material("acme-ci")]
    assert market.newest() == "1.0.0"
