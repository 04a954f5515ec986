"""What a submission changes, in the words that signers and operators see."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.inbox import DirectoryInbox
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.submission import Submission, SubmittedTarget
from margo_supplychain.authoring.submission_changes import role_changes
from margo_supplychain.formats import strict_json
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.publisher_policy import FORMAT, Reinstatement
from margo_supplychain.formats.tuf_metadata import parse_targets
from margo_supplychain.formats.versions import Version
from tests.authoring.market import FAN, PUMP, Market
from tests.authoring.submissions import role_file, submission
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.edit import Edit
    from margo_supplychain.authoring.submission_changes import RoleChange


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def before(market: Market) -> Prospect:
    """The repository as a vendor sees it."""
    start = market.view().handing(clock=market.clock)
    return Prospect(start.load(), start.place, now=start.now)


def changed(
    market: Market, change: Callable[[Edit], object], *signers: str
) -> tuple[RoleChange, ...]:
    """Hand in one change, and say what it changes."""
    inbox = DirectoryInbox(market.directory / "inbox")
    with market.submit(*(signers or ("acme",))) as edit:
        change(edit)
    return role_changes(inbox.signed(market.newest_in_inbox()), before(market))


def texts(changes: tuple[RoleChange, ...]) -> list[str]:
    return [f"{row.change} {row.text}" for one in changes for row in one.rows]


def short(name: str) -> str:
    return key(name).public_key.keyid[:12]


def test_an_application_comes(market: Market) -> None:
    name = ReleaseName.parse("acme/valve")
    keys = [key("one").public_key, key("two").public_key]
    found = changed(
        market, lambda edit: edit.add_application(name, keys, policy=OPEN, threshold=2)
    )
    assert [(one.role, one.before, one.version) for one in found] == [("acme", 1, 2)]
    shown = ", ".join(key(one).public_key.keyid for one in ("one", "two"))
    assert texts(found) == [
        f"added application acme/valve: signed by 2 of 2 keys: {shown}",
        "added policy of acme/valve: epoch 1, provenance none",
    ]


def test_keys_and_thresholds(market: Market) -> None:
    keys = [key("one").public_key, key("two").public_key]
    found = changed(
        market,
        lambda edit: edit.rotate_keys(PUMP.role, keys, threshold=2),
        *("acme", "one", "two"),
    )
    assert texts(found[:1])[0] == (
        f"removed key {short('acme-ci')} of application acme/pump: what it signed "
        "counts no more"
    )
    assert sorted(texts(found[:1])[1:3]) == sorted(
        f"added key {key(one).public_key.keyid} of application acme/pump"
        for one in ("one", "two")
    )
    assert texts(found[:1])[3:] == [
        "changed application acme/pump: 2 of 2 keys sign (was 1 of 1)"
    ]
    assert found[1].rows == ()  # it says the same, by other keys
    # Nobody without the repository can tell which of it is new.
    inbox = DirectoryInbox(market.directory / "inbox")
    alone = role_changes(inbox.signed(market.newest_in_inbox()), None)
    assert {row.change for one in alone for row in one.rows} == {"said"}
    assert {one.before for one in alone} == {None}
    assert "said policy of acme/pump: sha256 " in "\n".join(texts(alone))


def test_a_policy(market: Market) -> None:
    market.hand_in("1.1.0")
    market.accept()
    artifact = market.release("1.1.0", name=PUMP).artifact.digest
    policy = replace(
        OPEN,
        epoch=2,
        minimum_version=Version.parse("1.1.0"),
        reinstated=(Reinstatement(artifact=artifact, up_to=2),),
    )
    found = changed(market, lambda edit: edit.set_policy(PUMP, policy))
    assert texts(found) == [
        "changed policy of acme/pump: epoch 2 (was 1)",
        "changed policy of acme/pump: minimum version 1.1.0 (was none)",
        f"changed policy of acme/pump: reinstates {artifact} up to role v2 (was none)",
    ]


def test_releases_come_and_are_withdrawn(market: Market) -> None:
    release = market.release("1.1.0", name=PUMP)

    def both(edit: Edit) -> None:
        edit.add_release(release)
        edit.withdraw(PUMP, Version.parse("1.0.0"), reason="leaks")

    assert texts(changed(market, both, "acme-ci")) == [
        'changed release acme/pump 1.0.0: withdrawn: "leaks"',
        f"added release acme/pump 1.1.0: {release.artifact.digest}",
    ]


def test_the_same_again(market: Market) -> None:
    (one,) = changed(market, lambda edit: edit.refresh("acme"))
    assert (one.before, one.version, one.rows) == (1, 2, ())


def forged(market: Market, change: Callable[[dict[str, Any]], object]) -> Submission:
    """A role of acme that says whatever somebody wants, next after what stands."""
    data = market.trust / "metadata" / "1.acme.json"
    content = strict_json.parse(data.read_bytes(), what="acme", limit=1 << 20)
    content["signed"]["version"] += 1
    change(content["signed"])
    text = strict_json.canonical(content)
    return submission(roles=(parse_targets(text, role="acme", limit=len(text)),))


def test_what_nobody_should_sign_is_shown(market: Market) -> None:
    """Also what the operator would refuse: a holder sees it before."""

    def spoil(signed: dict[str, Any]) -> None:
        delegations = signed["delegations"]
        gone = next(one for one in delegations["roles"] if one["name"] == FAN.role)
        delegations["roles"].remove(gone)
        delegations["roles"][0]["paths"] = ["globex/releases/lamp/*"]
        path = PUMP.policy_path(FORMAT)
        signed["targets"][path]["hashes"] = {"sha256": "0" * 64}
        del signed["targets"][FAN.policy_path(FORMAT)]
        signed["x-other"] = "a field of somebody else"
        signed["x-left"] = {PUMP.role: ["ab" * 32]}
        signed["x-holders"] = {key("acme-ci").public_key.keyid: {"name": "Mallory"}}

    found = "\n".join(texts(role_changes(forged(market, spoil), before(market))))
    for line in (
        "removed application acme/fan: devices refuse it from now on",
        "changed application acme/pump: delegated otherwise: ",
        "changed says that a key left acme.pump: abababababab",
        "removed policy of acme/fan: not listed any more",
        "changed policy of acme/pump: it can't be read",
        "changed field x-other: a field of somebody else",
        f"changed key {short('acme-ci')}: held by Mallory (was nobody named)",
    ):
        assert line in found


def test_releases_that_leave_or_become_others(market: Market) -> None:
    market.hand_in("1.1.0")
    market.accept()
    data = (market.trust / "metadata" / "2.acme.pump.json").read_bytes()
    content = strict_json.parse(data, what="pump", limit=1 << 20)
    signed = content["signed"]
    signed["version"] = 5
    del signed["targets"][PUMP.release_path("1.0.0")]
    other = "sha256:" + "1" * 64
    signed["targets"][PUMP.release_path("1.1.0")]["custom"]["artifact"] = other
    signed["targets"]["acme/elsewhere/x"] = {
        "length": 1,
        "hashes": {"sha256": "2" * 64},
    }
    text = strict_json.canonical(content)
    one = submission(roles=(parse_targets(text, role=PUMP.role, limit=len(text)),))
    gap, gone, target, release = texts(role_changes(one, before(market)))
    assert gap == (
        "changed follows v4, which is not published: what follows is compared with v2"
    )
    assert gone == "removed release acme/pump 1.0.0: not listed any more"
    assert target == f"added target acme/elsewhere/x: sha256 {'2' * 64}"
    assert release.startswith(f"changed release acme/pump 1.1.0: {other} (was sha256:")


def test_long_texts_are_cut(market: Market) -> None:
    def flood(signed: dict[str, Any]) -> None:
        signed["x-" + "n" * 1_000] = "v" * 10_000

    (text,) = texts(role_changes(forged(market, flood), before(market)))
    assert len(text) < 400


def test_a_policy_that_is_not_what_is_signed() -> None:
    path = PUMP.policy_path(FORMAT)
    one = submission(
        roles=(role_file("acme", targets={path: b"{}"}),),
        targets=(SubmittedTarget(path, b"[]"),),
    )
    assert texts(role_changes(one, None)) == [
        "said policy of acme/pump: what comes along is not what is signed"
    ]
    same = replace(one, targets=(SubmittedTarget(path, b"{}"),))
    (text,) = texts(role_changes(same, None))
    assert text.startswith("said policy of acme/pump: can't be read: ")


def test_what_is_said_has_one_digest_whoever_signs() -> None:
    one = submission()
    who = role_file(signers=(key("other"),))
    signed = replace(one, roles=(replace(who, data=who.data),))
    assert signed.said != submission(note="x").said
    assert one.said == submission().said


# --- alone, without a repository -----------------------------------------------------


def alone(market: Market, change: Callable[[dict[str, Any]], object]) -> list[str]:
    return texts(role_changes(forged(market, change), None))


def test_a_removal_is_called_one(market: Market) -> None:
    """Also of an application that was never signed, of which nothing is listed."""
    file = {"version": 1, "length": 7, "hashes": {"sha256": "ab" * 32}}

    def spoil(signed: dict[str, Any]) -> None:
        roles = signed["delegations"]["roles"]
        signed["delegations"]["roles"] = [one for one in roles if FAN.role in str(one)]
        signed["x-left"] = {PUMP.role: ["cd" * 32], "acme.never": ["ef" * 32]}
        signed["x-cut-off"] = {
            PUMP.role: {"listed": file, "last": file},
            FAN.role: {"listed": file},
        }

    found = alone(market, spoil)
    shown = "v1 (sha256 abababababab)"
    both = f"{shown} is listed, {shown}"
    cut = "cut off; devices refuse it until its new keys have signed"
    for line in (
        "said application acme/pump: removed, devices refuse it",
        "said application acme/never: removed, devices refuse it",
        "said application acme/pump: keys that left, by material: cdcdcdcdcdcd",
        f"said application acme/pump: its last file: {both} is gone on from",
        f"said application acme/fan: {cut}: {shown} is listed, nothing is gone on from",
    ):
        assert line in found
    with_it = texts(role_changes(forged(market, spoil), before(market)))
    assert "removed application acme/pump: devices refuse it from now on" in with_it
    assert not any("pump: cut off" in one for one in with_it)


def test_what_is_not_as_our_tools_write_it(market: Market) -> None:
    other = key("other").public_key

    def spoil(signed: dict[str, Any]) -> None:
        role = signed["delegations"]["roles"][0]
        role.update(paths=["*", "globex/*"], terminating=False)
        signed["delegations"]["keys"][other.keyid] = other.to_dict()
        signed["x-holders"] = {other.keyid: {"name": "Mallory"}}
        signed["targets"][PUMP.policy_path(FORMAT)]["custom"] = {"x": 1}

    found = "\n".join(alone(market, spoil))
    for line in (
        ": delegated otherwise: paths *, globex/*\n",
        ": delegated otherwise: terminating False\n",
        f"said key {other.keyid} of no role\n",
        f"said key {other.keyid} of no role: held by {{'name': 'Mallory'}}",
        "otherwise than usual: {",
    ):
        assert line in found
    assert "otherwise" not in "\n".join(alone(market, lambda _: None))


def test_fields_that_can_not_be_read_alone(market: Market) -> None:
    def spoil(signed: dict[str, Any]) -> None:
        signed["x-left"] = {PUMP.role: ["no material"]}

    found = alone(market, spoil)
    assert any("said can't be read: " in one for one in found)
    assert any("said field x-left: " in one for one in found)


def test_all_that_a_release_says_alone(market: Market) -> None:
    data = (market.trust / "metadata" / "1.acme.pump.json").read_bytes()
    content = strict_json.parse(data, what="pump", limit=1 << 20)
    (file,) = content["signed"]["targets"].values()
    file["custom"]["profiles"] = ["0123456789abcdef"]
    file["custom"]["withdrawn"] = {
        "reason": 'bad\\"; use 6.6.6',
        "since": "2026-11-21T10:00:00Z",
    }
    text = strict_json.canonical(content)
    one = submission(roles=(parse_targets(text, role=PUMP.role, limit=len(text)),))
    (row,) = texts(role_changes(one, None))
    assert row.endswith(
        ', withdrawn: "bad\\\\\\"; use 6.6.6"; record sha256 '
        f"{file['hashes']['sha256']}; since 2026-11-21T10:00:00Z; "
        "profiles 0123456789abcdef"
    )
