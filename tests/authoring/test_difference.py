"""What a signer is told: everything that changes, and what it means."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.proposals import RootProposal
from tests.authoring.roots import (
    edited,
    first,
    following,
    keyid,
    plan,
    resigned,
    role,
    trusted,
)
from tests.authoring.trust import NOW

if TYPE_CHECKING:
    from datetime import datetime

    from margo_supplychain.authoring.difference import Difference

FOLLOW = "devices on root v1 follow; "
NOTHING = FOLLOW + "nothing else must be signed again"


def shown(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M")


def rows(difference: Difference, now: datetime = NOW) -> list[str]:
    return [" | ".join(filter(None, row)) for row in difference.rows(shown, now=now)]


def told(wanted: RootPlan) -> list[str]:
    return rows(following(wanted).difference())


def test_a_renewal_changes_the_expiry_alone() -> None:
    later = NOW + timedelta(days=600)
    proposal = RootProposal.following(trusted().data, plan(), now=later)
    assert rows(proposal.difference(), later) == [
        "threshold | 2 of 3 (unchanged)",
        "expiry | 2030-07-13 10:00 (was 2028-11-20 10:00)",
        f"effect | {NOTHING}",
    ]


def test_one_key_for_another() -> None:
    safe = Holder(name="holder D", place="token root-d", custody="never-extractable")
    wanted = plan("b", "c", "d")
    wanted = replace(wanted, holders={**wanted.holders, keyid("d"): safe})
    assert told(wanted) == [
        (
            f"root | - {keyid('a')[:12]}  holder a | leaves: signs this change and "
            "nothing after it"
        ),
        f"+ {keyid('d')}",
        "  holder D, token root-d, never-extractable",
        "threshold | 2 of 3 (unchanged)",
        "expiry | 2028-11-20 10:00 (was 2028-11-20 10:00)",
        f"effect | {NOTHING}",
    ]


def test_the_first_root() -> None:
    found = rows(first().difference())
    assert found[:2] == [f"root | + {keyid('a')}", "  holder a"]
    assert "targets | + " + keyid("targets") in found
    assert "snapshot, timestamp | + " + keyid("online") in found
    assert found[-1] == (
        "effect | devices trust it by the sha256 that `repo init` prints, which they "
        "get apart from it"
    )


def test_thresholds_say_who_decides() -> None:
    found = told(plan(threshold=1))
    assert "threshold | 1 of 3 (was 2 of 3: fewer decide)" in found
    assert "effect | 1 of 3 root keys decide from now on" in found
    found = told(plan(threshold=3))
    assert "threshold | 3 of 3 (was 2 of 3)" in found
    assert (
        "effect | no spare: without one of its 3 keys nobody can ever change root again"
        in found
    )


def test_what_must_be_signed_again() -> None:
    found = told(plan(targets=role("t2")))
    assert f"effect | {FOLLOW}signed again with it: targets" in found
    # Whoever signed it is still among the keys: nothing must be done.
    two = trusted(targets=role("targets", "t2", threshold=2)).data
    wanted = plan(targets=role("targets", "t2", "t3", threshold=2))
    assert following(wanted, after=two).difference().renewals == ()
    # One of the two that signed may be gone, and one is enough from now on.
    wanted = plan(targets=role("targets", "t3", threshold=1))
    assert following(wanted, after=two).difference().renewals == ()
    wanted = plan(targets=role("targets", "t3", threshold=2))
    assert following(wanted, after=two).difference().renewals == ("targets",)
    raised = plan(targets=role("targets", "t2", threshold=2))
    assert following(raised).difference().renewals == ("targets",)


def test_new_online_keys_undo_what_a_thief_signed() -> None:
    found = told(plan(snapshot=role("o2"), timestamp=role("o2")))
    assert f"effect | {FOLLOW}signed again with it: snapshot, timestamp" in found
    assert any(
        "devices forget the versions of snapshot and timestamp" in one for one in found
    )
    kept = role("online", "o2")
    found = told(plan(snapshot=kept, timestamp=kept))
    assert not any("forget" in one for one in found)


def test_everything_else_that_is_signed() -> None:
    wanted = plan(
        periods={"timestamp": timedelta(days=2)}, signing={"root": timedelta(days=60)}
    )
    wanted = replace(
        wanted, holders={**wanted.holders, keyid("a"): Holder(name="holder X")}
    )
    found = told(wanted)
    assert "period | timestamp 2d (was not said)" in found
    assert "signing | root 60d (was not said)" in found
    assert f"holder | {keyid('a')[:12]} holder X (was holder a)" in found
    after = trusted(periods={"timestamp": timedelta(days=2)}).data
    found = rows(following(plan(), after=after).difference())
    assert "period | timestamp no longer said (was 2d)" in found


def test_a_name_that_is_dropped_or_new_is_said() -> None:
    wanted = plan()
    fewer = {one: wanted.holders[one] for one in wanted.holders if one != keyid("a")}
    found = told(replace(wanted, holders=fewer))
    assert f"holder | {keyid('a')[:12]} no longer said (was holder a)" in found
    more = {**wanted.holders, keyid("targets"): Holder(place="file")}
    found = told(replace(wanted, holders=more))
    assert f"holder | {keyid('targets')[:12]} file (was not said)" in found


def test_custody_that_is_dropped_is_said() -> None:
    safe = {keyid("targets"): Holder(custody="never-extractable")}
    after = trusted(custody={"targets": "never-extractable"}, holders=safe).data
    found = rows(following(plan(holders=safe), after=after).difference())
    assert "custody | targets no longer said (was never-extractable)" in found


def test_what_another_tool_wrote_is_shown() -> None:
    before = resigned(
        edited(first().data, lambda root: root.update({"x-other": "a" * 100})), "a", "b"
    )
    proposal = following(plan(), after=before)
    changed = edited(proposal.data, lambda root: root.update({"x-other": 2}))
    found = rows(RootProposal.parse(changed, trusted=before).difference())
    digest = hashlib.sha256(b"a" * 100).hexdigest()[:16]
    was = f"{'a' * 80}… (100 characters, sha256 {digest})"
    assert f"other | x-other of root 2 (was {was})" in found
    new = edited(
        proposal.data, lambda root: root["roles"]["targets"].update({"x-new": 1})
    )
    found = rows(RootProposal.parse(new, trusted=before).difference())
    assert "other | x-new of role targets 1 (was not said)" in found


def test_an_expiry_that_comes_earlier_is_said() -> None:
    found = told(plan(periods={"root": timedelta(days=30)}))
    assert "expiry | 2026-12-21 10:00 (was 2028-11-20 10:00: earlier)" in found
    assert not any("expires in" in one for one in found)


@pytest.mark.parametrize(
    ("left", "text"),
    [
        (timedelta(days=29), "29 d"),
        (timedelta(hours=30), "30 h"),
        (timedelta(minutes=90), "90 min"),
        (timedelta(seconds=100), "100 s"),
        (timedelta(seconds=-5), "0 s"),
    ],
)
def test_a_root_that_hardly_lasts(left: timedelta, text: str) -> None:
    proposal = following(plan())
    found = rows(proposal.difference(), proposal.root.expires - left)
    wanted = f"effect | expires in {text}: devices take nothing then, until a next root"
    assert wanted in found


def test_a_time_that_is_ahead_is_said() -> None:
    proposal = RootProposal.following(
        trusted().data, plan(), now=NOW + timedelta(minutes=50)
    )
    found = rows(proposal.difference())
    assert "issued | 2026-11-21 10:50, 50 min ahead of your clock" in found
    found = rows(proposal.difference(), NOW + timedelta(minutes=46))
    assert not any(one.startswith("issued") for one in found)
    assert proposal.difference().to_dict()["issued"] == NOW + timedelta(minutes=50)


def test_a_key_that_is_offline_and_online_is_said() -> None:
    keys = role("a")
    simple = RootPlan(
        profile="simple",
        publisher="acme",
        root=keys,
        targets=keys,
        snapshot=keys,
        timestamp=keys,
    )
    found = rows(RootProposal.first(simple, now=NOW).difference())
    assert (
        "effect | a key of root is an online key: who breaks into it owns root" in found
    )
    assert (
        "effect | no spare: without its one key nobody can ever change root again"
        in found
    )


def test_programs_get_all_of_it() -> None:
    found = following(plan("b", "c", "d", targets=role("t2"))).difference().to_dict()
    assert (found["before"], found["version"]) == (1, 2)
    changes = {(one["keyId"], one["change"]): one["roles"] for one in found["keys"]}
    assert changes == {
        (keyid("a"), "leaves"): ["root"],
        (keyid("targets"), "leaves"): ["targets"],
        (keyid("d"), "comes"): ["root"],
        (keyid("t2"), "comes"): ["targets"],
        (keyid("b"), "stays"): ["root"],
        (keyid("c"), "stays"): ["root"],
        (keyid("online"), "stays"): ["snapshot", "timestamp"],
    }
    assert found["signAgain"] == ["targets"]
