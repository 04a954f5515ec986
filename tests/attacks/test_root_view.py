"""Whoever makes or carries a root proposal wants it to look harmless: a key that stays
written otherwise, another root to measure it by, names and numbers that mislead, and a
file that nobody can go on with. Ada, Ben and Cyd hold root, two of them must sign.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.signer import CryptoSigner

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan import RoleKeys, RootPlan
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.authoring.root_chain import follow
from margo_supplychain.authoring.targets_draft import TargetsDraft
from margo_supplychain.cli import root_describe, root_files
from margo_supplychain.errors import (
    MetadataFormatError,
    RefusedError,
    StorageError,
)
from margo_supplychain.formats import canonical_json, strict_json
from margo_supplychain.formats.times import format_time
from margo_supplychain.formats.tuf_metadata import parse_targets
from tests.authoring.roots import (
    edited,
    entries,
    envelope,
    first,
    following,
    keyid,
    plan,
    signed,
    trusted,
)
from tests.authoring.submissions import role_file, submission
from tests.authoring.trust import NOW, PUMP, Vendor, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from margo_supplychain.authoring.proposals import SignedRoot

Form = dict[str, Any]

TRUSTED = trusted()
RSA = CryptoSigner.generate_rsa()


def shown(data: bytes, after: SignedRoot = TRUSTED) -> list[tuple[str, ...]]:
    """Return what a signer reads of a proposal."""

    def second(when: datetime) -> str:
        return when.isoformat()

    proposal = RootProposal.parse(data, trusted=after.data)
    return list(proposal.difference().rows(second, now=NOW))


def harmless() -> RootProposal:
    """Return a proposal that renews everything as it is."""
    return following(plan(), after=TRUSTED.data)


def computed(form: Form) -> str:
    return hashlib.sha256(canonical_json.encode(form)).hexdigest()


def under_its_id(
    root: Form, name: str, change: Callable[[Form], object], of: Form | None = None
) -> str:
    """Write a key of a root otherwise, everywhere, under the id that follows."""
    form = copy.deepcopy(root["keys"].pop(name) if of is None else of)
    root["keys"].pop(name, None)
    change(form)
    new = computed(form)
    root["keys"][new] = form
    for role in root["roles"].values():
        role["keyids"] = [new if one == name else one for one in role["keyids"]]
    holders = root.get("x-holders", {})
    if name in holders:
        holders[new] = holders.pop(name)
    return new


def the_honest_way_is_open() -> None:
    """Nothing moved: the holders of the trusted root change it as ever."""
    second = signed(harmless(), "a", "c").finalize()
    stands = RootPlan.of(second.root.signed)
    third = signed(following(stands, after=second.data), "b", "a").finalize()
    assert follow([TRUSTED.data, second.data, third.data]).trusted.version == 3


# --- T-163: a key that stays, and is another one afterwards --------------------------


def blank_behind(form: Form) -> None:
    form["keyval"]["public"] += "\n"


def junk_before(form: Form) -> None:
    form["keyval"]["public"] = "junk\n" + form["keyval"]["public"]


def field_more(form: Form) -> None:
    form["keyval"]["x-other"] = "hidden"


def field_beside(form: Form) -> None:
    form["x-other"] = "hidden"


def type_of_old(form: Form) -> None:
    form["keytype"] = "ecdsa-sha2-nistp256"


REWRITTEN = [blank_behind, junk_before, field_more, field_beside, type_of_old]


@pytest.mark.parametrize("change", REWRITTEN)
def test_a_key_that_stays_is_written_otherwise(change: Callable[[Form], None]) -> None:
    """Mallory proposes Ben's own key again: under another id, by another name, as one
    of a token. It signs as before, so nothing would leave or come; other clients can't
    read it, and Ben's tools don't find it any more."""
    told = shown(harmless().data)
    assert not any(row[1].startswith(("+", "-")) for row in told)

    def attack(root: Form) -> None:
        new = under_its_id(root, keyid("b"), change)
        root["x-holders"][new] = {"name": "Mallory", "custody": "never-extractable"}

    expected = "not written as its holder's tools|which nothing here verifies"
    with pytest.raises(RefusedError, match=expected) as why:
        shown(edited(harmless().data, attack))
    assert why.value.code == "refused"
    the_honest_way_is_open()


@pytest.mark.parametrize("scheme", ["rsa-pkcs1v15-sha256", "rsassa-pss-sha512"])
def test_a_key_gets_another_scheme(scheme: str) -> None:
    """Cyd's RSA key shall sign by another scheme than her token does."""
    keys = (key("a").public_key, key("b").public_key, RSA.public_key)
    wanted = replace(plan(), root=RoleKeys(keys=keys, threshold=2))
    stands = signed(RootProposal.first(wanted, now=NOW), "a", "b").finalize()
    proposal = following(RootPlan.of(stands.root.signed), after=stands.data)
    assert shown(proposal.data, stands)

    def attack(root: Form) -> None:
        under_its_id(
            root, RSA.public_key.keyid, lambda form: form.update(scheme=scheme)
        )

    with pytest.raises(RefusedError, match="scheme"):
        shown(edited(proposal.data, attack), stands)
    second = signed(proposal, "a").sign(RSA).finalize()
    third = following(RootPlan.of(second.root.signed), after=second.data)
    assert third.sign(RSA).signed_by == {RSA.public_key.keyid}


def test_a_key_of_another_tool_is_given_a_new_id() -> None:
    """Another tool gave Ada's key its id. Mallory proposes the very same key under the
    id that `key generate` said: no other key comes, and signatures by hers are void."""
    begun = first()

    def by_another_tool(root: Form) -> None:
        under_its_id(root, keyid("a"), field_beside)

    data = edited(begun.data, by_another_tool)
    payload = canonical_json.encode(json.loads(data)["signed"])
    made = [
        {"keyid": keyid(one), "sig": key(one).sign(payload).signature} for one in "bc"
    ]
    stands = envelope(data, lambda root: root.update(signatures=made))
    old = RootPlan.of(follow([stands]).trusted.signed)
    proposal = following(old, "a", after=stands)
    (ours,) = proposal.signed_by
    assert ours != keyid("a")

    def attack(root: Form) -> None:
        under_its_id(root, ours, lambda form: form.pop("x-other"))

    with pytest.raises(
        RefusedError, match=f"key {keyid('a')[:12]} is key {ours[:12]} "
    ):
        RootProposal.parse(
            edited(following(old, after=stands).data, attack), trusted=stands
        )
    assert signed(proposal, "b").finalize().version == 2


def values(form: Any, here: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in form.items():
        yield (*here, name)
        if isinstance(value, dict):
            yield from values(value, (*here, name))


@pytest.mark.parametrize("name", ["b", "targets", "online", "d"])
def test_any_value_of_a_key_is_changed_under_its_new_id(name: str) -> None:
    """Mallory changes one value of a key, or adds one, and computes the id anew: of
    keys that stay, and of the one that comes in place of Ada's."""
    honest = following(plan("b", "c", "d"), after=TRUSTED.data)
    told = shown(honest.data)
    form = json.loads(honest.data)["signed"]["keys"][keyid(name)]

    def changed(place: tuple[str, ...], how: str) -> Callable[[Form], None]:
        def change(form: Form) -> None:
            for step in place[:-1]:
                form = form[step]
            last = place[-1]
            if how == "removed":
                del form[last]
            elif how == "more":
                form[f"{last}-"] = "1"
            elif isinstance(form[last], dict):
                form[last] = {**form[last], "n": "1"}
            else:
                form[last] += "1"

        return change

    count = 0
    for place in values(form):
        for how in ("removed", "another", "more"):
            document = json.loads(honest.data)
            under_its_id(document["signed"], keyid(name), changed(place, how))
            with pytest.raises((RefusedError, MetadataFormatError)):
                shown(strict_json.canonical(document))
            count += 1
    assert count == 12
    assert shown(honest.data) == told


def test_a_key_with_the_same_first_digits() -> None:
    """Mallory looks for a key whose id begins as Dan's, which he reads aloud. She may
    find one for twelve digits, and never for all of them."""
    dan = key("d").public_key
    tries = (CryptoSigner.generate_ed25519().public_key for _ in range(100_000))
    twin = next(one for one in tries if one.keyid[:2] == dan.keyid[:2])
    wanted = plan("b", "c", "d")
    keys = (*wanted.root.keys[:2], twin)
    false = replace(wanted, root=RoleKeys(keys=keys, threshold=2))
    rows = [shown(following(one, after=TRUSTED.data).data) for one in (wanted, false)]
    assert any(row[1] == f"+ {dan.keyid}" for row in rows[0])
    assert any(row[1] == f"+ {twin.keyid}" for row in rows[1])
    the_honest_way_is_open()


def test_a_key_that_is_made_to_look_alike() -> None:
    """A free field in the key object makes looking cheap: no key must be made, only a
    number counted up."""
    honest = following(plan("b", "c", "d"), after=TRUSTED.data)

    def attack(root: Form) -> None:
        def count(form: Form) -> None:
            for number in range(10_000):
                form["keyval"]["n"] = str(number)
                if computed(form).startswith(keyid("c")[:2]):
                    return

        under_its_id(root, keyid("d"), count)

    with pytest.raises(RefusedError, match="not written as its holder's tools"):
        shown(edited(honest.data, attack))
    assert signed(honest, "a", "b", "d").finalize().version == 2


# --- T-164: another root to measure it by --------------------------------------------


def test_the_trusted_root_comes_from_the_stick() -> None:
    """Cyd alone makes a first root of Ada's key and two of her own, puts it on the
    stick, and proposes a second one with these keys. By that root nothing changes, and
    Ada's signature counts for the real one."""
    takeover = plan("a", "mal", "mal2")
    honest = root_describe.change(harmless())
    real = following(takeover, after=TRUSTED.data)
    forged = signed(RootProposal.first(takeover, now=NOW), "mal", "mal2").finalize()
    by_forged = RootProposal.parse(real.data, trusted=forged.data)
    assert by_forged.digest == real.digest

    def trusted_row(lines: list[str]) -> str:
        return next(one for one in lines if one.startswith("  trusted "))

    deceived, known = root_describe.change(by_forged), root_describe.change(real)
    # Neither key is said to come: what she compares on the phone is all that tells.
    assert not any("  + " in one for one in deceived)
    assert trusted_row(honest).endswith(f"root v1 sha256 {TRUSTED.root.sha256}")
    assert trusted_row(known) == trusted_row(honest)
    assert trusted_row(deceived).endswith(f"root v1 sha256 {forged.root.sha256}")
    assert trusted_row(deceived) != trusted_row(honest)
    # By the root that she keeps, she sees who would come.
    assert sum(f"+ {keyid(one)}" in "\n".join(known) for one in ("mal", "mal2")) == 2
    the_honest_way_is_open()


# --- T-165: a signature that only some clients read ----------------------------------

FORMS: list[tuple[str, Callable[[str], str]]] = [
    ("a blank before", lambda sig: " " + sig),
    ("a blank in it", lambda sig: f"{sig[:2]} {sig[2:]}"),
    ("a line", lambda sig: sig + "\n"),
    ("upper case", lambda sig: sig.upper()),
    ("half a byte", lambda sig: sig[:-1]),
]


@pytest.mark.parametrize(
    "form", [one for _, one in FORMS], ids=[one for one, _ in FORMS]
)
def test_a_signature_is_written_otherwise(form: Callable[[str], str]) -> None:
    """Mallory carries Ada's copy, and puts a blank into its signature. Python reads it
    as before, and of two valid ones it would be kept; other clients could not read the
    root that is published, and stay where they are."""
    ours = signed(harmless(), "a")
    assert ours.signed_by == {keyid("a")}

    def attack(root: Form) -> None:
        root["signatures"][0]["sig"] = form(root["signatures"][0]["sig"])

    with pytest.raises(MetadataFormatError, match="is not lower-case hex") as why:
        RootProposal.parse(envelope(ours.data, attack), trusted=TRUSTED.data)
    assert why.value.code == "metadata-format"
    published = signed(ours, "b").finalize()
    for sig in entries(published.data).values():
        assert bytes.fromhex(sig).hex() == sig
    the_honest_way_is_open()


def test_a_role_is_handed_in_with_such_a_signature() -> None:
    """A vendor's holder, or who carries the file, does so to what is submitted."""
    good = role_file(PUMP.role)
    assert submission(roles=(good,)).roles == (good,)
    value = strict_json.parse(good.data, what="role", limit=len(good.data))
    value["signatures"][0]["sig"] = " " + value["signatures"][0]["sig"]
    data = strict_json.canonical(value)
    bad = parse_targets(data, role=PUMP.role, limit=len(data))
    with pytest.raises(MetadataFormatError, match="is not lower-case hex"):
        submission(roles=(bad,))
    assert submission(roles=(good,)).roles == (good,)


def test_targets_are_signed_apart_with_such_a_signature(tmp_path: Path) -> None:
    """`targets` goes with a proposed root from hand to hand, and is published, too."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    stands = vendor.repository.plan(clock=vendor.clock)
    wanted = replace(stands, targets=RoleKeys(keys=(key("t-2").public_key,)))
    proposal = vendor.repository.propose_root(wanted, clock=vendor.clock)
    draft = vendor.repository.draft_targets(proposal, clock=vendor.clock)
    draft = draft.sign(key("t-2"))
    trusted_root = proposal.trusted
    assert trusted_root is not None

    def read(data: bytes) -> TargetsDraft:
        return TargetsDraft.parse(data, trusted=trusted_root, proposed=proposal.root)

    assert read(draft.data).data == draft.data

    def attack(file: Form) -> None:
        file["signatures"][0]["sig"] = file["signatures"][0]["sig"] + " "

    with pytest.raises(MetadataFormatError, match="is not lower-case hex"):
        read(envelope(draft.data, attack))
    assert read(draft.data).data == draft.data


# --- T-166: a time that is not now ---------------------------------------------------


def issued(proposal: RootProposal, when: datetime) -> bytes:
    return edited(
        proposal.data, lambda root: root.update({"x-issued": format_time(when)})
    )


def test_a_root_of_tomorrow(tmp_path: Path) -> None:
    """Mallory moves the time of a proposal ahead. Nobody may sign anything before it,
    so for a day nobody could publish, nor propose a root that mends it."""
    vendor = Vendor(tmp_path)
    vendor.create_with_pump()
    repository = vendor.repository

    def proposed() -> RootProposal:
        found = repository.plan(clock=vendor.clock)
        return repository.propose_root(found, clock=vendor.clock)

    honest = proposed()
    honest.check_time(vendor.clock.now())
    for ahead in (timedelta(hours=23, minutes=59), timedelta(minutes=61)):
        data = issued(honest, vendor.clock.now() + ahead)
        bad = RootProposal.parse(data, trusted=repository.root)
        with pytest.raises(RefusedError, match="and this machine's clock says"):
            bad.check_time(vendor.clock.now())
    # What clocks that are set by hand may differ by is taken, shown, and ends soon.
    ahead = timedelta(minutes=55)
    data = issued(honest, vendor.clock.now() + ahead)
    soon = RootProposal.parse(data, trusted=repository.root)
    soon.check_time(vendor.clock.now())
    rows = [*soon.difference().rows(format_time, now=vendor.clock.now())]
    assert [row[1] for row in rows if row[0] == "issued"] == [
        f"{format_time(vendor.clock.now() + ahead)}, 55 min ahead of your clock"
    ]
    repository.adopt_root(soon.sign(key("offline")).finalize(), [], clock=vendor.clock)
    after = proposed()
    after.check_time(vendor.clock.now())
    assert after.root.issued == soon.root.issued
    vendor.clock.advance(hours=1)
    assert vendor.publish("1.0.0").changed


# --- T-167: names and keys that mislead ----------------------------------------------


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("\u0410da", "\u0410da (\\u0410da)"),
        ("Ada\u3164", "Ada\u3164 (Ada\\u3164)"),
        ("Ada\u2800B", "Ada\u2800B (Ada\\u2800B)"),
        ("Ada, token root-a, never-extractable", None),
        ('Ada", token root-a', None),
    ],
)
def test_a_name_that_looks_like_another(name: str, text: str | None) -> None:
    """Mallory's key comes with a name that a signer takes for one she knows, or for a
    token that it does not lie in."""
    quoted = '"{}"'.format(name.replace('"', '\\"'))
    wanted = plan("b", "c", "d")
    rows = shown(following(wanted, after=TRUSTED.data).data)
    assert ("", "  holder d", "") in rows
    holders = {**wanted.holders, keyid("d"): Holder(name=name)}
    proposal = following(replace(wanted, holders=holders), after=TRUSTED.data)
    assert ("", f"  {text or quoted}", "") in shown(proposal.data)
    the_honest_way_is_open()


def test_a_name_that_is_pushed_off_the_screen() -> None:
    """What would make her wonder stands behind 150 blanks, or in the 200th place."""

    def attack(name: str) -> Callable[[Form], object]:
        return lambda root: root["x-holders"].update({keyid("d"): {"name": name}})

    honest = following(plan("b", "c", "d"), after=TRUSTED.data)
    with pytest.raises(RefusedError, match="several blanks side by side"):
        shown(edited(honest.data, attack("Ada" + " " * 150 + "Mallory")))
    long = "Ada " + "a" * 180
    rows = shown(edited(honest.data, attack(long)))
    digest = hashlib.sha256(long.encode()).hexdigest()[:16]
    assert ("", f"  {long[:80]}… (184 characters, sha256 {digest})", "") in rows
    assert signed(honest, "a", "b", "d").finalize().version == 2


def undefined_holders(root: Form) -> None:
    many = {f"zz{one:05}": {"name": "N" * 200} for one in range(500)}
    root["x-holders"].update(many)


def unused_keys(root: Form) -> None:
    spare = [CryptoSigner.generate_ed25519().public_key for _ in range(30)]
    root["keys"].update({one.keyid: one.to_dict() for one in spare})
    root["x-holders"].update({one.keyid: {"name": "N" * 200} for one in spare})


@pytest.mark.parametrize(
    ("flood", "message"),
    [(undefined_holders, "does not define"), (unused_keys, "which no role has")],
)
def test_a_flood_of_keys_carries_the_change_off_the_screen(
    flood: Callable[[Form], None], message: str
) -> None:
    """The one key that comes stands above hundreds of rows about keys of no role."""
    honest = following(plan("b", "c", "d"), after=TRUSTED.data)
    assert any(row[1] == f"+ {keyid('d')}" for row in shown(honest.data))
    with pytest.raises(RefusedError, match=message):
        shown(edited(honest.data, flood))
    assert signed(honest, "a", "b", "d").finalize().version == 2


# --- T-168: what nobody can go on with -----------------------------------------------


def test_a_pipe_in_the_place_of_a_proposal(tmp_path: Path) -> None:
    """On the stick lies a pipe by the name of the proposal: whoever opens it waits."""
    file = tmp_path / "root-2.json"
    file.write_bytes(harmless().data)
    assert not root_files.is_submission(file)
    assert root_files.read_root(file) == harmless().data
    file.unlink()
    os.mkfifo(file)
    assert not root_files.is_submission(file)
    with pytest.raises(StorageError, match="not a regular file"):
        root_files.read_root(file)
    the_honest_way_is_open()


def test_a_root_that_ends_today() -> None:
    """A proposal says the day of its expiry, which is today: in a minute no device
    takes anything any more."""
    honest = harmless()
    assert not any("expires in" in one for one in root_describe.change(honest))
    ends = NOW + timedelta(minutes=1)
    data = edited(honest.data, lambda root: root.update(expires=format_time(ends)))
    rows = shown(data)
    was = TRUSTED.root.expires.isoformat()
    assert ("expiry", f"{ends.isoformat()} (was {was}: earlier)", "") in rows
    effect = "expires in 60 s: devices take nothing then, until a next root"
    assert ("effect", effect, "") in rows
    # To the minute also where people read it.
    row = next(one for one in root_describe.change(honest) if "expiry" in one)
    local = honest.root.expires.astimezone().strftime("%Y-%m-%d %H:%M")
    assert row.split("expiry")[1].strip().startswith(f"{local} (was {local})")
    the_honest_way_is_open()


def test_a_value_that_differs_far_behind() -> None:
    """What another tool wrote differs behind the characters that are shown."""

    def attack(end: str) -> bytes:
        return edited(
            harmless().data, lambda root: root.update({"x-note": "A" * 80 + end})
        )

    assert shown(attack("1")) != shown(attack("2"))
    assert shown(attack("1")) == shown(attack("1"))
    the_honest_way_is_open()


def placeholders(file: Form) -> None:
    names = [{"keyid": f"{one:064x}", "sig": ""} for one in range(200)]
    file["signatures"].extend(names)


def stuffed(file: Form) -> None:
    file["x"] = "a" * 400_000


def stuffed_signature(file: Form) -> None:
    file["signatures"].append({"keyid": keyid("b"), "sig": "", "x": "a" * 400_000})


def stuffed_root(file: Form) -> None:
    file["signatures"] = []
    file["signed"]["x-pad"] = "a" * 400_000


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (placeholders, "is no root key of"),
        (stuffed, "has the field 'x', which nobody signs"),
        (stuffed_signature, "has the field 'x', which nobody signs"),
        (stuffed_root, "signatures and the next root need room"),
    ],
)
def test_a_file_without_room(attack: Callable[[Form], None], message: str) -> None:
    """Mallory fills the file up to what devices read: the last signature, or the next
    root, which must carry all of it along, does not fit any more."""
    ours = signed(harmless(), "a")
    with pytest.raises((RefusedError, MetadataFormatError), match=message):
        RootProposal.parse(envelope(ours.data, attack), trusted=TRUSTED.data)
    assert signed(ours, "b").finalize().version == 2
    the_honest_way_is_open()
