"""Plans of roots: drafts of changes, files that people review, what root signs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from margo_supplychain.authoring.holders import (
    NOBODY,
    Holder,
    holders_field,
    holders_of,
    known_holders,
    named,
    place_of,
)
from margo_supplychain.authoring.plan import RootPlan
from margo_supplychain.authoring.plan_changes import PlanDraft, PlannedKey
from margo_supplychain.authoring.plan_file import LIMIT, parse_plan, render_plan
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.errors import (
    FormatError,
    KeyFormatError,
    MetadataFormatError,
    RefusedError,
)
from margo_supplychain.signing.public_files import Custody, KeyRecord
from tests.authoring.roots import keyid, plan, role
from tests.authoring.trust import NOW, key

SAFE = Holder(custody="never-extractable", place="token root-d")


def planned(name: str, holder: Holder = NOBODY) -> PlannedKey:
    return PlannedKey(key(name).public_key, holder)


def lookup(text: str) -> PlannedKey:
    """Return the key of `NAME.pub`."""
    if not text.endswith(".pub"):
        raise FormatError(f"{text}: no such file, expected a key")
    return planned(text.removesuffix(".pub"))


# --- drafts --------------------------------------------------------------------------


def test_one_key_for_another_wherever_it_is() -> None:
    stands = plan("a", "b", targets=role("a", "c"))
    draft = PlanDraft(stands)
    draft.replace(keyid("a")[:12], planned("d", SAFE))
    found = draft.plan()
    assert found.root.keyids == (keyid("d"), keyid("b"))
    assert found.targets.keyids == (keyid("d"), keyid("c"))
    assert found.root.threshold == 2
    assert found.holders == {
        keyid("b"): Holder(name="holder b"),
        keyid("d"): SAFE,
    }


def test_a_smaller_threshold_and_fewer_keys_at_once() -> None:
    draft = PlanDraft(plan("a", "b"))
    draft.remove("root", keyid("a"))
    with pytest.raises(RefusedError, match="root would need 2 of 1 keys"):
        draft.plan()
    draft.set_threshold("root", 1)
    assert draft.plan().root.keyids == (keyid("b"),)


def test_everything_else_that_a_root_says() -> None:
    draft = PlanDraft(plan())
    draft.add("targets", planned("d"))
    draft.set_threshold("targets", 2)
    draft.set_period("targets", timedelta(days=90))
    draft.set_signing("targets", timedelta(days=30))
    draft.name(keyid("d"), "holder D")
    found = draft.plan()
    assert (found.targets.keyids[-1], found.targets.threshold) == (keyid("d"), 2)
    assert found.periods == {"targets": timedelta(days=90)}
    assert found.signing == {"targets": timedelta(days=30)}
    assert found.holders[keyid("d")] == Holder(name="holder D")
    root = RootProposal.first(found, now=NOW).root.signed
    assert RootPlan.of(root) == found


def test_custody_is_demanded_of_every_key() -> None:
    draft = PlanDraft(plan("a", threshold=1))
    draft.set_custody("root", "never-extractable")
    with pytest.raises(KeyFormatError, match="recorded without custody, expected nev"):
        draft.plan()
    draft.replace(keyid("a"), planned("d", Holder(custody="extractable")))
    with pytest.raises(KeyFormatError, match="recorded as extractable"):
        draft.plan()
    draft.replace(keyid("d"), planned("e", SAFE))
    assert draft.plan().custody == {"root": "never-extractable"}
    draft.set_custody("root", None)
    assert draft.plan().custody == {}
    draft.set_custody("root", "locked away")
    with pytest.raises(FormatError, match="custody of 'root' is 'locked away'"):
        draft.plan()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("4f1a", "is no key id of root"),
        ("", "is no key id of root"),
        ("zzzzzzzz", "is no key id of root"),
        ("0" * 12, "has a key 000000000000"),
        ("A" * 64, "is no key id of root"),
    ],
)
def test_keys_that_are_not_there(text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        PlanDraft(plan()).remove("root", text)


def test_a_key_is_given_once() -> None:
    draft = PlanDraft(plan())
    with pytest.raises(RefusedError, match=f"root has key {keyid('a')[:12]} already"):
        draft.add("root", planned("a"))
    with pytest.raises(RefusedError, match="root has key"):
        draft.replace(keyid("a"), planned("b"))


def test_only_roles_of_root() -> None:
    draft = PlanDraft(plan())
    with pytest.raises(RefusedError, match="'acme' is no role of root"):
        draft.add("acme", planned("d"))
    with pytest.raises(RefusedError, match="'acme' is no role of root"):
        draft.set_threshold("acme", 1)


def test_what_is_recorded_of_a_key_comes_along() -> None:
    custody = Custody(sensitive=True, never_extractable=True, local=True)
    uri = "pkcs11:token=root%20d;object=root"
    record = KeyRecord(key=key("d").public_key, uri=uri, custody=custody)
    known = PlannedKey.of(record, name="holder D")
    assert known.holder.text == "holder D, token root d, never-extractable"
    bare = PlannedKey.of(KeyRecord(key=key("d").public_key), place="file")
    assert bare.holder == Holder(place="file")


# --- files ---------------------------------------------------------------------------

FILE = b"""
profile = "standard"
[root]
keys = ["a.pub", "b.pub", "c.pub"]
threshold = 2
[targets]
keys = ["targets.pub"]
[snapshot]
keys = ["online.pub"]
[timestamp]
keys = ["online.pub"]
[periods]
root = "100d"
timestamp = "36h"
[signing]
root = "30d"
[owners]
"a.pub" = "holder a"
"b.pub" = "holder b"
"c.pub" = "holder c"
"""


def test_a_file_says_all_of_a_plan() -> None:
    found = parse_plan(FILE, lookup)
    assert found == plan(
        periods={"root": timedelta(days=100), "timestamp": timedelta(hours=36)},
        signing={"root": timedelta(days=30)},
    )


def test_a_plan_is_written_and_read_again() -> None:
    stands = replace(
        parse_plan(FILE, lookup),
        holders={keyid("a"): Holder(name='holder "a"', place="token root-a")},
    )
    text = render_plan(stands)
    assert f'  "{keyid("a")}",  # holder "a", token root-a'.encode() in text
    assert parse_plan(text, lookup, base=stands) == stands


def test_keys_of_the_plan_that_stands_are_named_by_id() -> None:
    stands = plan()
    text = FILE.replace(b'"c.pub"]', f'"{keyid("c")[:12]}"]'.encode())
    text = text.replace(b'"c.pub" = "holder c"', b"")
    found = parse_plan(text, lookup, base=stands)
    assert found.root == stands.root
    assert found.holders[keyid("c")] == Holder(name="holder c")


def test_a_small_plan() -> None:
    text = FILE.replace(b'"standard"', b'"small"\npublisher = "acme"')
    text += b'[publisher-keys]\nkeys = ["a.pub"]\n'
    found = parse_plan(text, lookup)
    assert (found.profile, found.publisher) == ("small", "acme")
    assert found.publisher_keys == role("a")
    assert parse_plan(render_plan(found), lookup, base=found) == found


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"profile", b"profil", "plan has unknown field 'profil', expected one"),
        (b"threshold = 2", b"treshold = 2", "plan.root has unknown field 'tresh"),
        (b'"standard"', b'"large"', "plan.profile: 'large' is none of standard, small"),
        (b"threshold = 2", b"", "plan.root has no field 'threshold': 3 keys are named"),
        (b"threshold = 2", b"threshold = 4", "plan.root: the threshold is 4"),
        (b"threshold = 2", b"threshold = true", "threshold is true, not an integer"),
        (b"threshold = 2", b"limit = 2\nthreshold = 2", "plan.root has unknown field"),
        (b'"a.pub", ', b'"a.pub", "a.pub", ', "plan.root: key .* is given twice"),
        (b'"a.pub", ', b"1, ", "is an integer, not a string"),
        (b'["targets.pub"]', b"[]", "a role has 0 keys"),
        (b'"targets.pub"', b'"targets"', "targets: no such file"),
        (b'"100d"', b'"100 days"', "plan.periods.root: it is '100 days'"),
        (b'root = "100d"', b'king = "100d"', "period of 'king'"),
        (b'root = "30d"', b'king = "30d"', "signing period of 'king'"),
        (b"[signing]", b"[signature]", "unknown field 'signature'"),
        (b'"a.pub" = "h', b'"d.pub" = "h', "owners names 'd.pub', which is no key of"),
        (b'"holder a"', b'" "', "name of a key's holder"),
        (b"[root]", b"[root", "plan is not TOML: expected"),
        (b"[root]", b"\xff", "plan is not UTF-8 at byte"),
        (b"[timestamp]", b"[online]", "plan has unknown field 'online', expected"),
    ],
)
def test_a_file_that_says_something_else(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(FormatError, match=message):
        parse_plan(FILE.replace(old, new, 1), lookup)


def test_a_file_has_a_limit() -> None:
    with pytest.raises(MetadataFormatError, match="more than the limit of"):
        parse_plan(b"#" * (LIMIT + 1), lookup)
    with pytest.raises(MetadataFormatError, match=r"nested too deep|not TOML"):
        parse_plan(b"a = " + b"[" * 100_000, lookup)


def test_no_root_changes_the_profile() -> None:
    text = FILE.replace(b'"standard"', b'"simple"\npublisher = "acme"')
    with pytest.raises(MetadataFormatError, match="is simple, and the repository's is"):
        parse_plan(text, lookup, base=plan())
    bare = FILE.replace(b'profile = "standard"', b"")
    assert parse_plan(bare, lookup, base=plan()).profile == "standard"


# --- what root signs of it -----------------------------------------------------------


def test_holders_are_signed_and_read() -> None:
    known = {
        keyid("a"): Holder(name="holder A", custody="imported"),
        keyid("b"): NOBODY,
    }
    field = holders_field(known)
    assert field == {
        "x-holders": {keyid("a"): {"name": "holder A", "custody": "imported"}}
    }
    assert holders_field(known, {keyid("b")}) == {}
    root = RootProposal.first(plan(holders=known), now=NOW).root.signed
    assert holders_of(root) == {keyid("a"): known[keyid("a")]}
    assert named(keyid("a"), known) == "holder A"
    assert named(keyid("b"), known) == keyid("b")[:12]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "x-holders is an integer, not an object"),
        ({"a": 7}, "x-holders.a is an integer"),
        ({"a": {"name": 7}}, "x-holders.a.name is an integer"),
        ({"a": {"name": "two\nlines"}}, "not one printable line"),
        ({"a": {"name": "x" * 201}}, "expected 1 to 200"),
        ({"a": {"phone": "1"}}, "unknown field 'phone'"),
        ({str(number): {} for number in range(4097)}, "4097 entries, more than 4096"),
    ],
)
def test_holders_that_are_none(value: object, message: str) -> None:
    root = RootProposal.first(plan(), now=NOW).root.signed
    root.unrecognized_fields["x-holders"] = value
    with pytest.raises(MetadataFormatError, match=message):
        holders_of(root)
    assert known_holders(root) == {}


@pytest.mark.parametrize(
    ("uri", "place"),
    [
        (None, None),
        ("pkcs11:token=root-b;object=root", "token root-b"),
        ("pkcs11:serial=77", "token"),
        ("awskms:arn:aws:kms:eu:1:key/2", "awskms"),
    ],
)
def test_where_a_key_lies(uri: str | None, place: str | None) -> None:
    assert place_of(uri) == place


def test_a_number_that_is_too_long() -> None:
    """Python refuses to read it, in words of its own."""
    with pytest.raises(MetadataFormatError, match="plan is not TOML: exceeds the"):
        parse_plan(b"threshold = " + b"9" * 5_000, lookup)
