"""What is submitted to an operator by somebody who has a vendor's keys, or too few of
them, or none. Each is refused with the vendor's name and the reason, and while it lies
in the inbox, what another vendor hands in lands all the same."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.state import LIMITS
from margo_supplychain.formats import canonical_json
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import publisher_patterns
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.formats.versions import Version
from tests.attacks.forging import (
    all_of,
    delegate,
    entry,
    hand_in,
    listing,
    nothing,
    refused,
    role,
    set_policy,
    sign,
)
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from pathlib import Path


NOBODYS = Digest("sha256", "0" * 64)


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    assert found.newest(PUMP) == "1.0.0"
    return found


def forge_release(
    market: Market, version: str = "1.1.0", *signers: str, **options: Any
) -> str:
    """Hand in a release of acme/pump that is made by hand."""
    change, targets, blobs = listing(market, market.release(version, name=PUMP))
    file = role(market, PUMP.role, change, *signers, **options)
    return hand_in(market, file, targets=targets, blobs=blobs)


def test_what_is_forged_honestly_is_taken(market: Market) -> None:
    """So whatever is refused below is refused for its own reason."""
    forge_release(market)
    policy = replace(OPEN, minimum_version=Version.parse("1.0.0"))
    change, targets = set_policy(FAN, policy)
    add, more = set_policy(replace(FAN, name="new"), OPEN)
    new = delegate("acme.new", "acme-ci")
    file = role(market, "acme", all_of(change, add, new))
    hand_in(market, file, targets=targets | more)
    done = market.accept()
    assert done.refused == ()
    assert len(done.taken) == 2
    assert market.newest(PUMP) == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()


# --- T-120: names and delegations ----------------------------------------------------


def test_release_of_another_vendor(market: Market) -> None:
    """Acme's machine lists a release of globex/lamp in a role of acme."""
    change, targets, blobs = listing(market, market.release("2.0.0", name=PUMP))
    lamp = LAMP.release_path("2.0.0")
    steal, _, _ = listing(market, market.release("2.0.0", name=PUMP), path=lamp)
    file = role(market, PUMP.role, all_of(change, steal))
    name = hand_in(market, file, targets=targets, blobs=blobs)
    refused(market, name, "acme.pump v2 lists 'globex/releases/lamp/2.0.0'")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("globex/policies/lamp/1.json", "is not acme's"),
        ("acme/releases/pump/2.0.0", "neither a policy nor a layout"),
        ("acme/policies/pu..mp/1.json", "is not a name"),
        ("acme/policies/pump/01.json", "neither a policy nor a layout"),
        ("acme/policies/pump/2.json", "is a policy of format 2"),
        ("acme/policies/absent/1.json", "does not delegate to"),
        ("acme/layouts/pump/1.json", "which its policy does not name"),
        ("acme/other/pump/1.json", "neither a policy nor a layout"),
    ],
)
def test_publisher_that_lists_what_is_not_its_own(
    market: Market, path: str, reason: str
) -> None:
    """A thief of acme's offline key lists what no rule knows, or is not acme's."""
    change, targets = set_policy(PUMP, OPEN.to_bytes(), path)
    own = {at: data for at, data in targets.items() if at.startswith("acme/")}
    name = hand_in(market, role(market, "acme", change), targets=own)
    refused(market, name, reason)


@pytest.mark.parametrize(
    ("tag", "reason"),
    [
        ("latest", "'acme/releases/pump/latest'"),
        ("1.0", "'acme/releases/pump/1.0'"),
        ("1.1.0/x", "'acme/releases/pump/1.1.0/x'"),
        ("1.0.0_build", "which have one precedence"),
    ],
)
def test_release_under_a_name_that_is_no_version(
    market: Market, tag: str, reason: str
) -> None:
    """The thief of acme's application key lists a tag that moves, or an alias."""
    path = f"{PUMP.releases}{tag}"
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listing(market, made, path=path)
    name = hand_in(
        market, role(market, PUMP.role, change), targets=targets, blobs=blobs
    )
    refused(market, name, reason)


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("globex.lamp", {}, "which is no application of acme"),
        ("globex", {}, "which is no application of acme"),
        ("acme.pu..mp", {}, "is not a name"),
        ("acme.new", {"paths": ["acme/releases/*/*"]}, "delegates other paths"),
        ("acme.new", {"paths": ["globex/releases/new/*"]}, "delegates other paths"),
        ("acme.new", {"terminating": False}, "does not end there"),
        ("acme.new", {"threshold": 2}, "the threshold is 2"),
        ("acme.new", {"keyids": []}, "expected 1 to 64"),
        ("acme.new", {"note": "x"}, "the field 'note'"),
    ],
)
def test_delegation_that_is_not_as_ours(
    market: Market, name: str, fields: dict[str, Any], reason: str
) -> None:
    """A thief of acme's offline key delegates to another's role, or too much."""
    policy, targets = set_policy(replace(PUMP, name="new"), OPEN)
    paths = fields.pop("paths", ["acme/releases/new/*"])
    to = delegate(name, "mallory", paths=paths, **fields)
    file = role(market, "acme", all_of(policy, to))
    refused(market, hand_in(market, file, targets=targets), reason)


def test_hash_bins(market: Market) -> None:
    """A thief of acme's offline key delegates to bins, which match every name."""

    def change(signed: dict[str, Any]) -> None:
        delegations = signed["delegations"]
        del delegations["roles"]
        delegations["succinct_roles"] = {
            "keyids": list(delegations["keys"])[:1],
            "threshold": 1,
            "bit_length": 4,
            "name_prefix": "bin",
        }

    name = hand_in(market, role(market, "acme", change))
    refused(market, name, "delegates to hash bins")


def test_application_that_delegates_further(market: Market) -> None:
    """The thief of an application's key lends it to somebody else."""
    to = delegate("acme.pump.more", "mallory")
    name = hand_in(market, role(market, PUMP.role, to))
    refused(market, name, "acme.pump v2 delegates further")


@pytest.mark.parametrize("name", ["acme.pu..mp", "acme.", "acme.PUMP"])
def test_role_that_has_no_name(market: Market, name: str) -> None:
    """A submission has a role whose name no application can have."""
    file = sign(name, market.signed(f"1.{PUMP.role}.json"), ["acme"])
    refused(market, hand_in(market, file), "is no role")


def test_policy_with_more_beside(market: Market) -> None:
    """What stands beside a policy in the list would be read by somebody, some day."""
    change, targets = set_policy(PUMP, OPEN)
    path = PUMP.policy_path(1)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path]["custom"] = {"free": True}

    name = hand_in(market, role(market, "acme", all_of(change, add)), targets=targets)
    refused(market, name, "has custom fields")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"length": 2 << 20}, "has 2097152 bytes, more than the limit"),
        ({"hashes": {"sha512": "0" * 128}}, "expected sha256 alone"),
        ({"mirror": "oci://elsewhere"}, "the field 'mirror'"),
    ],
)
def test_target_that_is_not_as_ours(
    market: Market, fields: dict[str, Any], reason: str
) -> None:
    """A list that other clients read otherwise than devices do."""
    path = PUMP.release_path("1.0.0")

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][path].update(fields)

    refused(market, hand_in(market, role(market, PUMP.role, change)), reason)


@pytest.mark.parametrize("field", ["x-holders", "x-left", "x-cut-off"])
def test_fields_of_ours_that_can_not_be_read(market: Market, field: str) -> None:
    """What operators' tools read of a vendor must not stop them."""

    def change(signed: dict[str, Any]) -> None:
        signed[field] = {"acme.pump": 1}

    name = hand_in(market, role(market, "acme", change))
    refused(market, name, code="metadata-format")


def test_release_in_another_applications_list(market: Market) -> None:
    """The machine that releases acme/pump lists a release of acme/fan."""
    made = market.release("2.0.0", name=FAN)
    change, targets, blobs = listing(market, made)
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=targets, blobs=blobs)
    refused(market, name, "which is no release of acme/pump")


@pytest.mark.parametrize(
    ("name", "fields", "reason"),
    [
        ("Acme", {}, "is not a name"),
        ("acme.pump", {}, "is not a name"),
        ("initech", {"paths": ["*/*/*/*"]}, "delegates other paths to initech"),
        ("initech", {"terminating": False}, "does not end there"),
        ("initech", {"threshold": 3}, "the threshold is 3"),
    ],
)
def test_operators_own_role(
    market: Market, name: str, fields: dict[str, Any], reason: str
) -> None:
    """What is signed apart by the operator's own keys is judged as well: he may have
    been shown something else than he signed."""
    to = delegate(name, "mallory", **{"paths": publisher_patterns(name), **fields})
    file = role(market, "targets", to, "offline")
    refused(market, hand_in(market, file, publisher="targets"), reason)


def test_operators_own_role_lists_nothing(market: Market) -> None:
    """A release in `targets` itself makes its application ambiguous for devices."""
    change, _, _ = listing(market, market.release("2.0.0", name=PUMP))
    file = role(market, "targets", change, "offline")
    name = hand_in(market, file, publisher="targets")
    refused(market, name, "targets v3 lists 'acme/releases/pump/2.0.0' itself")


def test_operators_own_role_leaves_a_vendor_behind(market: Market) -> None:
    """Acme gets other keys, and its role is signed by none of them."""
    to = delegate("acme", "mallory", paths=publisher_patterns("acme"))
    file = role(market, "targets", to, "offline")
    name = hand_in(market, file, publisher="targets")
    refused(market, name, "takes the keys of acme away")


def test_operators_own_role_drops_a_vendor(market: Market) -> None:
    """Acme is no publisher any more, and nothing says so."""

    def drop(signed: dict[str, Any]) -> None:
        roles = signed["delegations"]["roles"]
        signed["delegations"]["roles"] = [one for one in roles if one["name"] != "acme"]

    file = role(market, "targets", drop, "offline")
    name = hand_in(market, file, publisher="targets")
    refused(market, name, "delegates to acme no more, and leaves it behind")


def test_operators_own_role_signed_by_a_vendor(market: Market) -> None:
    """A vendor makes himself whatever he likes."""
    to = delegate("initech", "mallory", paths=publisher_patterns("initech"))
    file = role(market, "targets", to, "acme")
    name = hand_in(market, file, publisher="targets")
    refused(market, name, "targets v3 has 0 of 1", code="threshold")


# --- T-121: versions -----------------------------------------------------------------


def test_version_that_skips(market: Market) -> None:
    """A thief of the key goes far ahead, so that nobody can follow."""
    name = forge_release(market, step=1_000)
    refused(market, name, "acme.pump v1001 skips versions: v1 is published, so v2")


def test_version_that_repeats(market: Market) -> None:
    """Mallory hands in other bytes for a version that is published."""
    name = forge_release(market, step=0)
    refused(market, name, "acme.pump v1 was made from an older state")


def test_race_for_one_version(market: Market) -> None:
    """Two machines of acme sign on top of one state: one lands, the other is told to
    build again, and devices see one of them whole."""
    first = forge_release(market, "1.1.0")
    second = forge_release(market, "1.2.0")
    done = market.accept()
    (taken,), (lost,) = done.taken, done.refused
    assert {taken.name, lost.name} == {first, second}
    assert "acme: acme.pump v2 was made from an older state" in lost.reason
    assert lost.hint is not None
    assert "build it again" in lost.hint
    assert market.newest(PUMP) == ("1.1.0" if taken.name == first else "1.2.0")
    assert market.version(PUMP.role) == 2
    before = market.files()
    assert [one.name for one in market.accept().refused] == [lost.name]
    assert market.files() == before


# --- T-122: keys and signatures ------------------------------------------------------


def test_one_signature_too_few(market: Market) -> None:
    """Two of three must sign for acme; Mallory has stolen one key."""
    keys = [key(one).public_key for one in ("acme", "acme-2", "acme-3")]
    with market.repository.edit(
        [key("offline"), key("ci"), key("acme"), key("acme-2")], clock=market.clock
    ) as edit:
        edit.rotate_keys("acme", keys, threshold=2)
    change, targets = set_policy(PUMP, replace(OPEN, epoch=1))
    name = hand_in(market, role(market, "acme", change, "acme-2"), targets=targets)
    refused(market, name, "has 1 of 2 required signatures", code="threshold")


def test_one_key_under_two_ids(market: Market) -> None:
    """Mallory has one of two keys and signs twice, the second time under the id of the
    other key, or of none."""
    keys = [key(one).public_key for one in ("acme", "acme-2")]
    with market.repository.edit(
        [key("offline"), key("ci"), key("acme"), key("acme-2")], clock=market.clock
    ) as edit:
        edit.rotate_keys("acme", keys, threshold=2)
    for keyid in (keys[1].keyid, "ab" * 32):
        file = role(market, "acme", nothing, "acme", ("acme", keyid))
        name = hand_in(market, file)
        refused(market, name, "has 1 of 2 required signatures", code="threshold")
        market.inbox.remove(name)


def test_delegation_to_one_key_under_two_ids(market: Market) -> None:
    """A thief of acme's offline key gives an application two ids of one key: its
    threshold of two is met by one holder."""
    alias = key("mallory").public_key.to_dict()
    alias["x-alias"] = "second"
    keyid = hashlib.sha256(canonical_json.encode(alias)).hexdigest()

    def twice(signed: dict[str, Any]) -> None:
        signed["delegations"]["keys"][keyid] = alias
        found = signed["delegations"]["roles"][-1]
        found["keyids"].append(keyid)
        found["threshold"] = 2

    policy, targets = set_policy(replace(PUMP, name="new"), OPEN)
    change = all_of(policy, delegate("acme.new", "mallory"), twice)
    name = hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, name, "one key under two key ids", code="threshold")


def test_key_of_somebody_else(market: Market) -> None:
    """Globex signs in the name of acme."""
    name = forge_release(market, "1.1.0", "globex-ci")
    refused(market, name, "acme.pump v2 has 0 of 1", code="threshold")


def test_swapped_after_it_was_signed(market: Market) -> None:
    """Somebody between the vendor and the inbox exchanges a record, or the list of
    what comes along: the signature says which one it was."""
    change, _, blobs = listing(market, market.release("1.1.0", name=PUMP))
    other = listing(market, market.release("1.1.0", b"other", name=PUMP))[1]
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=other, blobs=blobs)
    refused(market, name, "no role of it lists those bytes")


def test_changed_in_the_inbox(market: Market) -> None:
    """Who may write to the inbox changes a submission in place."""
    name = forge_release(market)
    path = market.inbox.directory / f"{name}.tar"
    data = bytearray(path.read_bytes())
    data[-2000] ^= 1
    path.write_bytes(data)
    before = market.files()
    done = market.accept()
    assert done.taken == ()
    assert done.refused[0].code in {"malformed", "digest-mismatch"}
    assert market.files() == before


def test_content_that_is_not_what_is_signed(market: Market) -> None:
    """A submission brings a manifest without what that names, or names what is nowhere:
    nothing lists it, and nothing of it is kept."""
    change, targets, blobs = listing(market, market.release("1.1.0", name=PUMP))
    file = role(market, PUMP.role, change)
    some = [one for one in blobs if one != b"acme/pump 1.1.0"]
    name = hand_in(market, file, targets=targets, blobs=some)
    refused(market, name, "acme: ", code="fetch")
    market.inbox.remove(name)
    name = hand_in(market, file, targets=targets)
    refused(market, name, "neither comes with it, nor lies in a registry")


def test_key_that_returns(market: Market) -> None:
    """A key that was stolen left acme/pump a year ago; who has it and the offline key
    brings it back, and with it all that it ever signed."""
    with market.submit("acme", "acme-ci-2") as edit:
        edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    assert market.accept().refused == ()  # sane
    file = role(market, "acme", delegate(PUMP.role, "acme-ci"))
    own = role(market, PUMP.role, lambda _: None, "acme-ci")
    name = hand_in(market, file, own)
    refused(market, name, "left the role acme.pump")


def test_what_left_is_forgotten(market: Market) -> None:
    """Acme's role no longer says which keys left, so that one may return later."""
    with market.submit("acme", "acme-ci-2") as edit:
        edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    assert market.accept().refused == ()  # sane

    def forget(signed: dict[str, Any]) -> None:
        del signed["x-left"]

    name = hand_in(market, role(market, "acme", forget))
    refused(market, name, "forgets that key")


def test_key_that_leaves_without_a_word(market: Market) -> None:
    """Once old versions are cleared away, nobody would know that it must not return."""
    file = role(market, "acme", delegate(PUMP.role, "acme-ci-2", forgets=True))
    own = role(market, PUMP.role, nothing, "acme-ci-2")
    name = hand_in(market, file, own)
    refused(market, name, "leaves acme.pump, and nothing says so")


# --- T-123: releases -----------------------------------------------------------------


def test_release_that_is_dropped(market: Market) -> None:
    """The thief of an application's key takes a release off the list."""
    path = PUMP.release_path("1.0.0")
    file = role(market, PUMP.role, lambda signed: signed["targets"].pop(path))
    refused(market, hand_in(market, file), "drops acme/pump 1.0.0")


def test_release_of_other_bytes(market: Market) -> None:
    """The thief lists other bytes under a version that is published."""
    made = market.release("1.0.0", b"backdoor", name=PUMP)
    change, targets, blobs = listing(market, made)
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=targets, blobs=blobs)
    refused(market, name, "acme/pump 1.0.0 exists with other bytes")


def test_entry_that_disagrees_with_its_record(market: Market) -> None:
    """The list that deployments and withdrawals go by names another artifact."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listing(market, made, artifact=f"sha256:{'0' * 64}")
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=targets, blobs=blobs)
    refused(market, name, "its entry in the signed list another", code="malformed")


def test_record_that_does_not_come_along(market: Market) -> None:
    """Devices would look for a record that the operator never had."""
    change, _, blobs = listing(market, market.release("1.1.0", name=PUMP))
    name = hand_in(market, role(market, PUMP.role, change), blobs=blobs)
    refused(market, name, code="fetch")


def test_same_bytes_under_a_new_version(market: Market) -> None:
    """What is withdrawn by its digest must not come back under another version."""
    made = market.release("9.0.0", b"acme/pump 1.0.0", name=PUMP)
    change, targets, blobs = listing(market, made)
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=targets, blobs=blobs)
    refused(market, name, "has the same bytes as 1.0.0")


def test_withdrawal_that_is_dropped(market: Market) -> None:
    """The thief of an application's key takes back that a release was withdrawn."""
    market.hand_in("0.9.0")
    assert market.accept().refused == ()
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("0.9.0"), reason="leaks")
    assert market.accept().refused == ()  # sane
    path = PUMP.release_path("0.9.0")
    before = market.version(PUMP.role)

    def drop(signed: dict[str, Any]) -> None:
        del signed["targets"][path]["custom"]["withdrawn"]

    name = hand_in(market, role(market, PUMP.role, drop))
    refused(market, name, "drops the mark `withdrawn` of acme/pump 0.9.0")
    assert market.version(PUMP.role) == before


def test_withdrawal_that_is_dropped_with_the_offline_key(market: Market) -> None:
    """With the policy that reinstates it, the same is what the publisher decided."""
    market.hand_in("0.9.0")
    market.accept()
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("0.9.0"), reason="leaks")
    market.accept()
    with market.submit("acme", "acme-ci") as edit:
        edit.reinstate(PUMP, Version.parse("0.9.0"))
    done = market.accept()
    assert done.refused == ()
    version = market.version(PUMP.role)
    path = PUMP.release_path("0.9.0")
    listed = market.signed(f"{version}.{PUMP.role}.json")["targets"][path]
    assert "withdrawn" not in listed["custom"]


def test_release_below_the_minimum(market: Market) -> None:
    """The thief of an application's key lists an old, vulnerable version anew."""
    with market.submit("acme") as edit:
        policy = replace(OPEN, minimum_version=Version.parse("1.0.0"))
        edit.set_policy(PUMP, policy)
    assert market.accept().refused == ()  # sane
    refused(market, forge_release(market, "0.1.0"), "below the publisher's minimum")


@pytest.mark.parametrize(
    ("mark", "reason"),
    [
        ({"use": "7.0.0"}, "it does not list"),
        ({"use": "1.0.0"}, "it is withdrawn itself"),
        ({"since": "yesterday"}, "is malformed"),
    ],
)
def test_withdrawal_that_leads_nowhere(
    market: Market, mark: dict[str, Any], reason: str
) -> None:
    """Devices and people would be sent to what is not there, or is bad itself."""
    path = PUMP.release_path("1.0.0")

    def change(signed: dict[str, Any]) -> None:
        full = {"reason": "leaks", "since": "2026-11-21T10:00:00Z", **mark}
        signed["targets"][path]["custom"]["withdrawn"] = full

    refused(market, hand_in(market, role(market, PUMP.role, change)), reason)


def test_record_signed_anew(market: Market) -> None:
    """Hints may change; what a release is may not."""
    made = market.release("1.0.0", name=PUMP)
    record = replace(
        made.record(market.clock.when + timedelta(days=1)),
        locations=("oci://registry.example/pump",),
    )
    data = record.to_bytes()
    path = PUMP.release_path("1.0.0")

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(data, record.entry().to_custom())

    hand_in(market, role(market, PUMP.role, change), targets={path: data})
    assert market.accept().refused == ()
    other = replace(record, application_version="evil")
    evil = other.to_bytes()

    def swap(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(evil, other.entry().to_custom())

    name = hand_in(market, role(market, PUMP.role, swap), targets={path: evil})
    refused(market, name, "acme/pump 1.0.0 exists with other bytes")


def test_record_that_nobody_can_judge(market: Market) -> None:
    """A record names a layout that no policy has, where none is demanded."""
    record = market.release("1.1.0", name=PUMP).record(market.clock.when, layout=1)
    data = record.to_bytes()

    def change(signed: dict[str, Any]) -> None:
        signed["targets"][record.path] = entry(data, record.entry().to_custom())

    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets={record.path: data})
    refused(market, name, "names layout 1, which its publisher policy does not name")


def test_more_withdrawn_than_devices_remember(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thief of an application's key withdraws without end: devices would refuse
    the application, and the operator everybody's work with it."""
    for version in ("0.8.0", "0.9.0"):
        market.hand_in(version)
    assert market.accept().refused == ()
    monkeypatch.setattr("margo_supplychain.verify.memory.MAX_WITHDRAWN", 1)

    def change(signed: dict[str, Any]) -> None:
        for version in ("0.8.0", "0.9.0"):
            path = PUMP.release_path(version)
            mark = {"reason": "leaks", "since": "2026-11-21T10:00:00Z"}
            signed["targets"][path]["custom"]["withdrawn"] = mark

    name = hand_in(market, role(market, PUMP.role, change))
    refused(market, name, "more than 1 withdrawn", code="budget")


# --- T-124: policies -----------------------------------------------------------------


def test_epoch_that_falls(market: Market) -> None:
    """Devices that saw the higher epoch would refuse every release for ever."""
    higher = PublisherPolicy(
        epoch=2, provenance="none", minimum_version=Version.parse("1.0.0")
    )
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, higher)
    assert market.accept().refused == ()  # sane
    change, targets = set_policy(PUMP, OPEN)
    name = hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, name, "the epoch of acme/pump would fall from 2 to 1")


@pytest.mark.parametrize(
    ("policy", "reason", "code"),
    [
        (replace(OPEN, epoch=2), "a higher epoch of acme/pump needs", "refused"),
        (
            replace(OPEN, reinstated=(Reinstatement(artifact=NOBODYS, up_to=1),)),
            "no release of acme/pump has the artifact",
            "refused",
        ),
        (b"{}", "publisher policy", "metadata-format"),
        (b'{"format":1,"epoch":1,"free":true}', "policy", "metadata-format"),
    ],
)
def test_policy_that_can_not_follow(
    market: Market, policy: PublisherPolicy | bytes, reason: str, code: str
) -> None:
    """A thief of acme's offline key signs what devices can't read or go back from."""
    change, targets = set_policy(PUMP, policy)
    name = hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, name, reason, code=code)


def test_policy_that_is_dropped(market: Market) -> None:
    """Without a policy devices deny every release."""
    path = PUMP.policy_path(1)
    file = role(market, "acme", lambda signed: signed["targets"].pop(path))
    refused(market, hand_in(market, file), "has no policy for it")


def test_provenance_by_an_offline_key(market: Market) -> None:
    """What demands proof, and what is proven, would have one and the same signer."""
    policy, targets = set_policy(
        replace(PUMP, name="new"), replace(OPEN, provenance="required")
    )
    to = delegate("acme.new", "acme")
    file = role(market, "acme", all_of(policy, to))
    refused(market, hand_in(market, file, targets=targets), "also an offline one")


# --- T-125: time, size, floods -------------------------------------------------------


def test_expired(market: Market) -> None:
    """Mallory hands in what was signed long ago, and has expired since."""
    name = forge_release(market, days=1)
    market.clock.when += timedelta(days=2)
    refused(market, name, "acme.pump v2 expired", code="expired")


def test_signed_for_ever(market: Market) -> None:
    """A stolen key signs once, and for a century."""
    name = forge_release(market, days=36_500)
    refused(market, name, "more than 2 times the 180 days")


def test_fields_that_no_rule_knows(market: Market) -> None:
    """What other readers may believe must not be said behind the operator's back."""

    def change(signed: dict[str, Any]) -> None:
        signed["x-fine"] = "ignored by everybody"
        signed["replaces"] = "globex.lamp"

    name = hand_in(market, role(market, PUMP.role, change))
    refused(market, name, "the field 'replaces', which no rule knows")


def test_flood(market: Market) -> None:
    """Whoever may write to the inbox fills it with rubbish: it is bounded, said aloud,
    and what is named is taken; cleared away, nobody is kept waiting."""
    name = market.hand_in("1.1.0")
    rubbish = [f"{number:064x}" for number in range(1_050)]
    for one in rubbish:
        (market.inbox.directory / f"{one}.tar").write_bytes(b"rubbish")
    done = market.accept()
    assert done.more
    assert any("more than was looked at" in one for one in done.warnings)
    assert done.taken == ()
    assert len(done.refused) == 1_000
    assert {one.code for one in done.refused} == {"malformed"}
    done = market.accept(only=[name])
    assert [one.name for one in done.taken] == [name]
    assert market.newest() == "1.1.0"
    done = market.accept(discard=True)
    assert len(done.removed) == 1_000
    done = market.accept(discard=True)
    assert market.inbox.names().names == ()


def test_list_that_is_full(market: Market, monkeypatch: pytest.MonkeyPatch) -> None:
    """One vendor's applications must leave room for others in what devices read."""
    small = replace(LIMITS, snapshot=1_000)
    monkeypatch.setattr("margo_supplychain.authoring.acceptance_rules.LIMITS", small)
    policy, targets = set_policy(replace(PUMP, name="new"), OPEN)
    file = role(market, "acme", all_of(policy, delegate("acme.new", "acme-ci")))
    signed = {**market.signed(f"1.{PUMP.role}.json"), "targets": {}}
    own = sign("acme.new", signed, ["acme-ci"])
    refused(market, hand_in(market, file, own, targets=targets), "would list 7 roles")


def test_more_applications_than_anybody_has(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor may one vendor delegate without end."""
    monkeypatch.setattr(
        "margo_supplychain.authoring.delegator_room.MOST_APPLICATIONS", 2
    )
    policy, targets = set_policy(replace(PUMP, name="new"), OPEN)
    file = role(market, "acme", all_of(policy, delegate("acme.new", "acme-ci")))
    name = hand_in(market, file, targets=targets)
    refused(market, name, "delegates to 3 applications, which makes 3")


def test_rubbish_that_takes_time(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading what is refused takes so long, and no longer: others are named."""
    for number in range(3):
        (market.inbox.directory / f"{number:064x}.tar").write_bytes(b"rubbish")
    monkeypatch.setattr("margo_supplychain.authoring.accepting.MOST_WASTED", 0.0)
    done = market.accept()
    assert done.more
    assert len(done.refused) == 1
    name = market.hand_in("1.1.0")
    assert [one.name for one in market.accept(only=[name]).taken] == [name]


# --- T-126: what devices could no longer follow --------------------------------------


def test_application_that_is_left_behind(market: Market) -> None:
    """Acme's role gives an application other keys, and what devices run is signed by
    none of them."""
    file = role(market, "acme", delegate(PUMP.role, "mallory"))
    refused(market, hand_in(market, file), "takes the keys of acme.pump away")


def test_application_that_vanishes(market: Market) -> None:
    """Acme's role delegates to an application no more, and says nothing of it."""

    def drop(signed: dict[str, Any]) -> None:
        roles = signed["delegations"]["roles"]
        signed["delegations"]["roles"] = [
            one for one in roles if one["name"] != PUMP.role
        ]
        del signed["targets"][PUMP.policy_path(1)]

    name = hand_in(market, role(market, "acme", drop))
    refused(market, name, "delegates to acme.pump no more, and leaves it behind")


def test_sibling_that_matches_as_well(market: Market) -> None:
    """One file makes two applications ambiguous: none is taken of it."""
    to = delegate("acme.fan", "acme-ci", paths=["acme/releases/*/*"])
    name = hand_in(market, role(market, "acme", to))
    refused(market, name, "delegates other paths to acme.fan")


def test_rubbish_beside_a_submission(market: Market) -> None:
    """What no role lists is not written, whatever its name."""
    change, targets, blobs = listing(market, market.release("1.1.0", name=PUMP))
    extra = {**targets, "acme/policies/fan/1.json": OPEN.to_bytes() + b" "}
    file = role(market, PUMP.role, change)
    name = hand_in(market, file, targets=extra, blobs=blobs)
    refused(market, name, "no role of it lists those bytes")
