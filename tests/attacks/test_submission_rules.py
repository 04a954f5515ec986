"""What of an application's past binds its future, whoever signs the next file.

A vendor, or who has his offline key, removes and adds, rotates and cuts off, so that an
epoch, releases or withdrawals are forgotten, or so that nobody can act after him. Each
is refused by the operator; the same is done by hand with the offline key, and by the
tools, with what binds still there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.inbox import DirectoryInbox, Waiting
from margo_supplychain.errors import RefusedError, ThresholdError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.formats.versions import Version
from tests.attacks.forging import (
    all_of,
    delegate,
    hand_in,
    listing,
    note_leaving,
    refused,
    role,
    set_policy,
)
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit
    from tests.attacks.forging import Change

RAISED = replace(OPEN, epoch=5, minimum_version=Version.parse("1.0.0"))
OLD = Version.parse("0.9.0")


@pytest.fixture
def market(tmp_path: Path) -> Market:
    """Acme/pump has 1.0.0, and 0.9.0 that is withdrawn."""
    found = Market(tmp_path)
    found.open_market()
    found.hand_in("0.9.0")
    assert found.accept().refused == ()
    with found.submit("acme-ci") as edit:
        edit.withdraw(PUMP, OLD, reason="leaks")
    assert found.accept().refused == ()
    assert found.newest() == "1.0.0"
    return found


def taken(market: Market) -> list[str]:
    """Let the operator accept; return whose submissions were taken, none refused."""
    done = market.accept()
    assert done.refused == ()
    return [one.publisher for one in done.taken]


def meta(market: Market, name: str) -> dict[str, Any]:
    """Return what the snapshot lists of a role."""
    snapshot = market.signed(f"{market.version('snapshot')}.snapshot.json")
    found: dict[str, Any] = snapshot["meta"][f"{name}.json"]
    return found


def listed(market: Market) -> dict[str, bool]:
    """Return what acme/pump lists: version → whether it is withdrawn."""
    targets = market.signed(f"{market.version(PUMP.role)}.{PUMP.role}.json")["targets"]
    return {
        path.rpartition("/")[2]: "withdrawn" in one["custom"]
        for path, one in targets.items()
    }


def without_pump(signed: dict[str, Any]) -> None:
    """Delegate to acme/pump no more, and note its keys."""
    note_leaving(signed, PUMP.role, set())
    roles = signed["delegations"]["roles"]
    signed["delegations"]["roles"] = [one for one in roles if one["name"] != PUMP.role]


def cut_off(**entry: Any) -> Change:
    """Return a change that says of acme/pump that it was cut off."""

    def change(signed: dict[str, Any]) -> None:
        signed["x-cut-off"] = {PUMP.role: entry}

    return change


def begin_anew(signed: dict[str, Any]) -> None:
    """List nothing of what was."""
    signed["targets"] = {}


# --- T-149: removed, and added again -------------------------------------------------


def test_policy_that_leaves_with_its_application(market: Market) -> None:
    """With acme's offline key Mallory removes acme/pump and its policy, to add both
    again with epoch 1 where it was 5: she is refused at the first step."""
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, RAISED)
    assert taken(market) == ["acme"]  # sane

    def remove(signed: dict[str, Any]) -> None:
        without_pump(signed)
        cut_off(listed=meta(market, PUMP.role), last=meta(market, PUMP.role))(signed)
        del signed["targets"][PUMP.policy_path(1)]

    name = hand_in(market, role(market, "acme", remove))
    refused(market, name, "drops the policy of acme/pump", "epoch could fall")


def test_removal_that_keeps_nothing_to_go_on_from(market: Market) -> None:
    """She leaves the policy, and does not say what was listed last."""
    assert listed(market)["0.9.0"]  # sane
    name = hand_in(market, role(market, "acme", without_pump))
    refused(market, name, "takes the keys of acme.pump away", "x-cut-off")


@pytest.mark.parametrize("is_one", [True, False])
def test_application_that_begins_anew_after_its_removal(
    market: Market, *, is_one: bool
) -> None:
    """She removes it as the tools do, and adds it with another key and a list of her
    own, at once or one after the other: it is compared with the list before."""
    with market.submit("acme") as edit:
        edit.remove_application(PUMP)
    assert taken(market) == ["acme"]
    last = meta(market, PUMP.role)

    change, targets, blobs = listing(market, market.release("0.1.0", name=PUMP))
    own = role(market, PUMP.role, all_of(begin_anew, change), "acme-ci-2")
    add = delegate(PUMP.role, "acme-ci-2")
    if is_one:
        name = hand_in(market, role(market, "acme", add), own, targets=targets)
    else:
        hand_in(market, role(market, "acme", all_of(add, cut_off(listed=last))))
        why = market.accept(discard=True).refused[0].reason
        assert "lets acme.pump go on from nothing of it" in why
        hand_in(market, role(market, "acme", add))  # what the removal said still stands
        assert taken(market) == ["acme"]
        name = hand_in(market, own, targets=targets, blobs=blobs)
    done = market.accept()
    assert done.taken == ()
    assert "drops acme/pump 1.0.0" in done.refused[0].reason
    assert done.refused[0].name == name
    market.accept(discard=True)

    # Its honest holder goes on from what was listed, the mark on 0.9.0 included.
    keys = ("acme", "acme-ci-3") if is_one else ("acme-ci-2",)
    with market.submit(*keys) as edit:
        if is_one:
            ci = key("acme-ci-3").public_key
            edit.add_application(PUMP, [ci], policy=OPEN)
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert any("goes on from v3" in one for one in edit.warnings)
    assert taken(market) == ["acme"]
    assert listed(market) == {"0.9.0": True, "1.0.0": False, "1.1.0": False}
    assert market.newest() == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()


@pytest.mark.parametrize("is_one", [True, False])
def test_removed_and_added_by_hand(market: Market, *, is_one: bool) -> None:
    """The same with the offline key in the repository itself, in one edit or two."""

    def remove(edit: Edit) -> None:
        assert edit.remove_application(PUMP)

    def add(edit: Edit) -> None:
        ci = key("acme-ci-2").public_key
        assert edit.add_application(PUMP, [ci], policy=OPEN)

    keys = [*market.keys, key("acme"), key("acme-ci-2")]
    warnings: list[str] = []
    for steps in ((remove, add),) if is_one else ((remove,), (add,)):
        with market.repository.edit(keys, clock=market.clock) as edit:
            for step in steps:
                step(edit)
        warnings += edit.warnings
    assert any("the last file before it was removed" in one for one in warnings)
    assert listed(market) == {"0.9.0": True, "1.0.0": False}
    assert market.newest() == "1.0.0"
    assert market.repository.check(clock=market.clock).violations == ()


def test_added_again_before_its_key_signs(market: Market) -> None:
    """Its new key signs elsewhere, later: it is told from what it goes on, also when
    it was removed once more in between."""
    keys = [*market.keys, key("acme")]
    for number in (2, 3):
        with market.repository.edit(keys, clock=market.clock) as edit:
            edit.remove_application(PUMP)
        with market.repository.edit(keys, clock=market.clock) as edit:
            ci = key(f"acme-ci-{number}").public_key
            edit.add_application(PUMP, [ci], policy=OPEN)
        with pytest.raises(ThresholdError):
            market.newest()
    with market.submit("acme-ci-3") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert taken(market) == ["acme"]
    assert listed(market) == {"0.9.0": True, "1.0.0": False, "1.1.0": False}
    assert market.newest() == "1.1.0"


# --- T-150: a vendor's own word of what was cut off ----------------------------------


def test_cut_off_that_goes_on_from_nothing(market: Market) -> None:
    """With acme's offline key Mallory gives acme/pump her key, and says that there is
    nothing to go on from: her next list would be compared with nothing."""
    change = all_of(
        delegate(PUMP.role, "mallory"), cut_off(listed=meta(market, PUMP.role))
    )
    name = hand_in(market, role(market, "acme", change))
    refused(market, name, "go on from nothing of it", "v3 stands")


def test_cut_off_that_goes_on_from_before_a_withdrawal(market: Market) -> None:
    """She names the list before 0.9.0 was withdrawn, so that an honest holder of the
    new key would sign it again without the mark."""
    data = (market.trust / f"metadata/2.{PUMP.role}.json").read_bytes()
    older = {
        "version": 2,
        "length": len(data),
        "hashes": {"sha256": Digest.of(data).hex},
    }
    now = meta(market, PUMP.role)
    for entry in ({"listed": now, "last": older}, {"listed": older, "last": now}):
        change = all_of(delegate(PUMP.role, "acme-ci-2"), cut_off(**entry))
        name = hand_in(market, role(market, "acme", change))
        refused(market, name, "(x-cut-off)", "v3 stands with v3 listed")
        market.accept(discard=True)

    # As the tools say it, it is taken, and the holder goes on from the mark.
    change = all_of(delegate(PUMP.role, "acme-ci-2"), cut_off(listed=now, last=now))
    hand_in(market, role(market, "acme", change))
    assert taken(market) == ["acme"]
    own = role(market, PUMP.role, begin_anew, "acme-ci-2")
    hand_in(market, own)
    assert "drops acme/pump" in market.accept(discard=True).refused[0].reason
    with market.submit("acme-ci-2") as edit:
        edit.refresh(PUMP.role)
    assert taken(market) == ["acme"]
    assert listed(market) == {"0.9.0": True, "1.0.0": False}


@pytest.mark.parametrize("name", [PUMP.role, "acme.absent", "globex.lamp"])
def test_cut_off_of_what_was_not(market: Market, name: str) -> None:
    """She says so of a role whose keys stay, of none, and of another vendor's."""
    now = meta(market, PUMP.role)

    def change(signed: dict[str, Any]) -> None:
        signed["x-cut-off"] = {name: {"listed": now, "last": now}}

    found = hand_in(market, role(market, "acme", change))
    refused(market, found, f"says that {name} was cut off", "takes no keys away")


def test_cut_off_that_is_forgotten(market: Market) -> None:
    """Acme/pump was cut off and waits for its new key. Mallory drops the word from
    which file it goes on, or gives it one key more."""
    with market.submit("acme") as edit:
        new = key("acme-ci-2").public_key
        edit.cut_off_keys(PUMP.role, [new], threshold=1)
    assert taken(market) == ["acme"]

    def forget(signed: dict[str, Any]) -> None:
        del signed["x-cut-off"]

    for change in (forget, all_of(forget, delegate(PUMP.role, "mallory"))):
        hand_in(market, role(market, "acme", change))
        done = market.accept(discard=True)
        assert "takes the keys of acme.pump away" in done.refused[0].reason

    with market.submit("acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert taken(market) == ["acme"]
    assert listed(market) == {"0.9.0": True, "1.0.0": False, "1.1.0": False}


def test_operators_own_word_of_what_was_cut_off(market: Market) -> None:
    """The operator's role is judged in the same way: its holders sign apart."""
    patterns = [f"acme/{kind}/*/*" for kind in ("releases", "layouts", "policies")]
    to = delegate("acme", "acme-9", paths=patterns)

    def change(signed: dict[str, Any]) -> None:
        to(signed)
        signed["x-cut-off"] = {"acme": {"listed": meta(market, "acme")}}

    file = role(market, "targets", change, "offline")
    name = hand_in(market, file, publisher="targets")
    refused(market, name, "targets v3 lets acme go on from nothing of it")


# --- T-151, T-152: what nobody could remove or rotate any more -----------------------


def test_vendor_that_can_not_be_removed(market: Market) -> None:
    """Acme's role says that keys left roles with endless names: all of it would be
    copied into `targets`, which every device reads, when acme is removed."""
    many: dict[str, list[str]] = {f"acme.{'a' * 10_000}{one}": [] for one in range(40)}
    file = role(market, "acme", lambda signed: signed.update({"x-left": many}))
    name = hand_in(market, file)
    refused(market, name, "a key left acme.aaa", "which never had it")


def test_vendor_who_wrote_so_by_hand_is_removed(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where such a role stands already, `targets` keeps of it what counts."""
    real = "0" * 64
    many: dict[str, list[str]] = {f"acme.{'a' * 10_000}{one}": [] for one in range(40)}

    def stuff(edit: Edit) -> None:
        signed = edit._work.changes.change("acme")
        signed.unrecognized_fields["x-left"] = {
            **many,
            "acme.never": [real],
            "globex.lamp": [real],
            PUMP.role: [real],
        }

    keys = [*market.keys, key("acme")]
    with market.repository.edit(keys, clock=market.clock) as edit:
        stuff(edit)
    assert market.newest() == "1.0.0"  # sane
    with market.repository.edit(market.keys, clock=market.clock) as edit:
        edit.remove_publisher("acme")
    assert edit.warnings == ()
    path = f"{market.version('targets')}.targets.json"
    left = market.signed(path)["x-left"]
    assert set(left) == {"acme", PUMP.role, FAN.role}
    assert real in left[PUMP.role]
    assert (market.trust / "metadata" / path).stat().st_size < 10_000
    assert market.newest(LAMP) == "1.0.0"

    # However little room there is, a vendor can be removed.
    monkeypatch.setattr("margo_supplychain.authoring.delegating.MOST_KEPT", 50)
    with market.repository.edit(market.keys, clock=market.clock) as edit:
        edit.remove_publisher("globex")
    assert edit.warnings == (
        "globex had more keys than fit into what devices read: not all are remembered",
    )


def test_key_that_can_not_be_rotated(market: Market) -> None:
    """Who has acme's offline key notes 10,000 keys that acme/pump never had: after the
    cut-off no key more could be noted, and so none be replaced."""
    left = {PUMP.role: sorted(f"{one:064x}" for one in range(10_000))}
    file = role(market, "acme", lambda signed: signed.update({"x-left": left}))
    name = hand_in(market, file)
    refused(market, name, "says that key 000000000000 left acme.pump")

    market.accept(discard=True)
    with market.repository.edit(market.keys, clock=market.clock) as edit:
        new = key("acme-9").public_key
        edit.cut_off_keys("acme", [new], threshold=1)
    with market.submit("acme-9", "acme-ci-2") as edit:
        new = key("acme-ci-2").public_key
        edit.rotate_keys(PUMP.role, [new], threshold=1)
    assert taken(market) == ["acme"]
    assert market.newest() == "1.0.0"


@pytest.mark.parametrize("name", [FAN.role, "acme.absent", "acme", "x" * 300])
def test_keys_that_never_were_there(market: Market, name: str) -> None:
    """One such key is as little true as ten thousand."""
    left = {name: ["0" * 64]}
    file = role(market, "acme", lambda signed: signed.update({"x-left": left}))
    found = hand_in(market, file)
    refused(market, found, "which never had it (x-left, by material)")


# --- T-153: what waits when a key is taken away --------------------------------------


def thiefs(market: Market) -> str:
    """Hand in acme/pump 6.6.6, signed by the stolen release key; return its name."""
    made = market.release("6.6.6", b"backdoor", name=PUMP)
    change, targets, blobs = listing(market, made)
    file = role(market, PUMP.role, change)
    return hand_in(market, file, targets=targets, blobs=blobs)


@pytest.mark.parametrize("signers", [("acme",), ("acme", "acme-ci-2")])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_stolen_key_handed_something_in(
    market: Market,
    monkeypatch: pytest.MonkeyPatch,
    signers: tuple[str, ...],
    *,
    is_reversed: bool,
) -> None:
    """The thief's release waits when acme takes the key away, with the new one at hand
    or not: it neither stops that, nor is it signed by the new key."""
    planted = thiefs(market)
    listing_of = DirectoryInbox.names

    def names(inbox: DirectoryInbox) -> Waiting:
        found = listing_of(inbox)
        order = sorted(found.names, reverse=is_reversed)
        return found._replace(names=tuple(order))

    monkeypatch.setattr(DirectoryInbox, "names", names)
    new = key("acme-ci-2").public_key
    with market.submit(*signers) as edit:
        # With the new key at hand nobody is cut off: then it is a rotation.
        edit.cut_off_keys(PUMP.role, [new], threshold=1)
    told = next(one for one in edit.warnings if "from what is published" in one)
    assert f"{planted[:12]} (acme.pump v4) with acme/pump 6.6.6" in told
    name = market.newest_in_inbox()

    # Whichever name comes first: what takes keys away is judged before the others.
    done = market.accept(discard=True)
    assert [one.name for one in done.taken] == [name]
    assert [one.name for one in done.refused] == [planted]
    with market.submit("acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert taken(market) == ["acme"]
    assert set(listed(market)) == {"0.9.0", "1.0.0", "1.1.0"}
    assert market.newest() == "1.1.0"


def test_stolen_key_handed_something_in_before_a_removal(market: Market) -> None:
    """Nor is what waits kept as the last word of an application that is removed."""
    thiefs(market)
    with market.submit("acme") as edit:
        edit.remove_application(PUMP)
    assert any("6.6.6" in one for one in edit.warnings)
    name = market.newest_in_inbox()
    assert [one.name for one in market.accept(only=[name]).taken] == [name]
    file = market.signed(f"{market.version('acme')}.acme.json")
    assert file["x-cut-off"][PUMP.role]["last"]["version"] == 3


def test_what_waits_of_others_is_gone_on_from(market: Market) -> None:
    """Acme's own policy and another application's release wait as well: the rotation
    comes after them, and takes nothing of theirs away."""
    with market.submit("acme") as edit:
        edit.set_policy(FAN, replace(OPEN, minimum_version=Version.parse("0.1.0")))
    market.hand_in("1.1.0", FAN)
    market.hand_in("1.1.0", PUMP)
    new = key("acme-ci-2").public_key
    with market.submit("acme", "acme-ci", "acme-ci-2") as edit:
        edit.rotate_keys(PUMP.role, [new], threshold=1)
    assert edit.written is not None
    done = market.accept(only=[*edit.written.after, edit.written.name])  # type: ignore[attr-defined]
    assert len(done.taken) == 3
    assert market.newest(FAN) == "1.1.0"
    assert market.newest(PUMP) == "1.0.0"


def test_rotation_after_other_changes(market: Market) -> None:
    """What was begun on top of what waits is not taken for what is published."""
    thiefs(market)
    with market.submit("acme", "acme-ci", "acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
        with pytest.raises(RefusedError, match="must not be gone on from"):
            edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
        raise_nothing = edit.is_refused(PUMP.role)
    assert not raise_nothing


def test_application_that_waits_with_its_first_release(market: Market) -> None:
    """It is published nowhere: there is nothing that its keys could be taken from."""
    one = replace(PUMP, name="one")
    with market.submit("acme", "acme-ci") as edit:
        edit.add_application(one, [key("acme-ci").public_key], policy=OPEN)
    with market.submit("acme", "acme-ci-2") as edit:
        with pytest.raises(RefusedError, match=r"acme\.one is not published yet"):
            edit.rotate_keys(one.role, [key("acme-ci-2").public_key], threshold=1)
        assert edit.keyids(one.role) == ()


def test_cut_off_that_waits_is_gone_on_from(market: Market) -> None:
    """The operator is away: the new key signs on top of a cut-off that waits."""
    with market.submit("acme") as edit:
        new = key("acme-ci-2").public_key
        edit.cut_off_keys(PUMP.role, [new], threshold=1)
    for version in ("1.1.0", "1.2.0"):
        with market.submit("acme", "acme-ci-2") as edit:
            edit.add_release(market.release(version, name=PUMP))
    with market.submit("acme") as edit:
        new = key("acme-ci-3").public_key
        edit.cut_off_keys(PUMP.role, [new], threshold=1)
    assert any("1.2.0" in one for one in edit.warnings)
    assert edit.written is not None
    order = [*edit.written.after, edit.written.name]  # type: ignore[attr-defined]
    assert len(order) == 2
    assert len(market.accept(only=order).taken) == 2
    with market.submit("acme-ci-3") as edit:
        edit.refresh(PUMP.role)
    assert [one.publisher for one in market.accept().taken] == ["acme"]
    assert listed(market) == {"0.9.0": True, "1.0.0": False}


# --- T-154: what is listed is what was judged ----------------------------------------


@pytest.mark.parametrize("step", [-7, 7])
def test_length_of_a_release_is_changed(market: Market, step: int) -> None:
    """The thief of acme's release key changes how long the record of 1.0.0 shall be:
    its hash stays, and no device could read it."""

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][PUMP.release_path("1.0.0")]["length"] += step

    name = hand_in(market, role(market, PUMP.role, change))
    refused(market, name, code="length-mismatch")


def test_length_of_a_policy_is_changed(market: Market) -> None:
    """The same with a policy and the offline key."""

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][PUMP.policy_path(1)]["length"] += 7

    name = hand_in(market, role(market, "acme", change))
    refused(market, name, code="length-mismatch")


def withdrawn_first(market: Market) -> tuple[str, PublisherPolicy]:
    """List 1.1.0 with its mark and without content; return it and what reinstates."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, _ = listing(market, made)
    path = PUMP.release_path("1.1.0")

    def mark(signed: dict[str, Any]) -> None:
        change(signed)
        since = "2026-11-21T10:00:00Z"
        signed["targets"][path]["custom"]["withdrawn"] = {"reason": "x", "since": since}

    hand_in(market, role(market, PUMP.role, mark), targets=targets)
    assert taken(market) == ["acme"]
    version = market.version(PUMP.role)
    custom = market.signed(f"{version}.{PUMP.role}.json")["targets"][path]["custom"]
    what = Reinstatement(artifact=Digest.parse(custom["artifact"]), up_to=version)
    return path, replace(OPEN, reinstated=(what,))


def test_reinstated_without_its_content(market: Market) -> None:
    """A release comes with its mark, when nobody asks for its content, and loses it
    later: now devices would look for what is nowhere."""
    path, policy = withdrawn_first(market)
    change, targets = set_policy(PUMP, policy)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][path]["custom"]["withdrawn"]

    files = role(market, "acme", change), role(market, PUMP.role, drop)
    name = hand_in(market, *files, targets=targets)
    refused(market, name, "the content of acme/pump 1.1.0 neither comes with it")

    # With the content beside it, it is what it should have been at first.
    _, _, blobs = listing(market, market.release("1.1.0", name=PUMP))
    hand_in(market, *files, targets=targets, blobs=blobs)
    assert [one.publisher for one in market.accept().taken] == ["acme"]
    assert market.newest() == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()


def test_reinstated_below_a_minimum_that_falls_again(market: Market) -> None:
    """The minimum bars it while the mark goes, so that no device takes it; without its
    content it is refused all the same."""
    path, policy = withdrawn_first(market)
    barred = replace(policy, minimum_version=Version.parse("2.0.0"))
    change, targets = set_policy(PUMP, barred)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][path]["custom"]["withdrawn"]

    files = role(market, "acme", change), role(market, PUMP.role, drop)
    name = hand_in(market, *files, targets=targets)
    refused(market, name, "the content of acme/pump 1.1.0 neither comes with it")
    _, _, blobs = listing(market, market.release("1.1.0", name=PUMP))
    hand_in(market, *files, targets=targets, blobs=blobs)
    assert [one.publisher for one in market.accept().taken] == ["acme"]
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, policy)
    assert taken(market) == ["acme"]
    assert market.newest() == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()


def test_reinstated_by_hand_without_its_content(market: Market) -> None:
    """In the repository itself, devices are asked before anything is written."""
    withdrawn_first(market)
    before = market.files()
    keys = [*market.keys, key("acme"), key("acme-ci")]
    with (
        pytest.raises(Exception, match="does not exist") as why,
        market.repository.edit(keys, clock=market.clock) as edit,
    ):
        edit.reinstate(PUMP, Version.parse("1.1.0"))
    assert getattr(why.value, "code", "") == "fetch"
    assert market.files() == before
    assert market.newest() == "1.0.0"


# --- T-155: room and time ------------------------------------------------------------


def test_room_that_is_filled_by_adding_and_removing(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Acme never has more than three applications at a time; what the snapshot lists
    of those before never leaves it."""
    monkeypatch.setattr(
        "margo_supplychain.authoring.delegator_room.MOST_APPLICATIONS", 3
    )
    one = replace(PUMP, name="one")
    ci = key("acme-ci").public_key
    with market.submit("acme", "acme-ci") as edit:
        edit.add_application(one, [ci], policy=OPEN)
    assert taken(market) == ["acme"]  # sane
    with market.submit("acme") as edit:
        edit.remove_application(one)
    assert taken(market) == ["acme"]

    policy, targets = set_policy(replace(PUMP, name="two"), OPEN)
    file = role(market, "acme", all_of(policy, delegate("acme.two", "acme-ci")))
    name = hand_in(market, file, targets=targets)
    refused(market, name, "makes 4 with those that were removed, more than 3")

    # That one comes back is no application more, and others are rotated as before.
    market.accept(discard=True)
    with market.submit("acme", "acme-ci-2") as edit:
        new = key("acme-ci-2").public_key
        edit.add_application(one, [new], policy=OPEN)
        edit.rotate_keys(PUMP.role, [new], threshold=1)
    assert taken(market) == ["acme"]


@pytest.mark.parametrize("name", [PUMP.role, "acme"])
def test_role_that_expires_at_once(market: Market, name: str) -> None:
    """What lasts two seconds is taken, and gone before the next device looks."""
    found = hand_in(market, role(market, name, days=2 / 86400))
    refused(market, found, "and no longer")
    market.accept(discard=True)
    hand_in(market, role(market, name, days=2))
    assert taken(market) == ["acme"]
    market.clock.when += timedelta(hours=30)
    assert market.newest() == "1.0.0"
