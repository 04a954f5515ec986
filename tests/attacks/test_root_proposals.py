"""Who carries a root proposal, or makes one, wants a holder to sign something else than
she reads. Ada, Ben and Cyd hold root, two of them must sign; the trusted root is known
to each, and Mallory writes everything else.
"""

from __future__ import annotations

import copy
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.field_changes import MAX_OTHERS
from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.plan_changes import PlanDraft, PlannedKey
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.authoring.root_chain import follow
from margo_supplychain.errors import (
    IncompleteError,
    KeyFormatError,
    MetadataFormatError,
    RefusedError,
    ThresholdError,
)
from margo_supplychain.formats import strict_json
from tests.authoring.roots import (
    edited,
    first,
    following,
    keyid,
    plan,
    resigned,
    role,
    signed,
    trusted,
)
from tests.authoring.trust import NOW, key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from margo_supplychain.authoring.proposals import SignedRoot

TRUSTED = trusted(
    periods={"timestamp": timedelta(days=2)},
    signing={"root": timedelta(days=60)},
    holders={keyid(name): Holder(name=f"holder {name}") for name in "abc"},
)
Place = tuple[str | int, ...]


def shown(data: bytes, after: SignedRoot = TRUSTED) -> list[tuple[str, ...]]:
    """Return what a signer reads of a proposal."""

    def second(when: datetime) -> str:
        return when.isoformat()

    proposal = RootProposal.parse(data, trusted=after.data)
    return list(proposal.difference().rows(second, now=NOW))


def honest() -> RootProposal:
    """Return a proposal in which d takes the place of a; another tool has a word."""
    draft = PlanDraft(
        plan(
            periods={"timestamp": timedelta(days=2)},
            signing={"root": timedelta(days=60)},
        )
    )
    draft.replace(keyid("a"), PlannedKey(key("d").public_key, Holder(name="holder d")))
    proposal = following(draft.plan(), after=TRUSTED.data)
    data = edited(proposal.data, lambda root: root.update({"x-tool": {"days": 3}}))
    return RootProposal.parse(data, trusted=TRUSTED.data)


def places(value: Any, here: Place = ()) -> Iterator[Place]:
    """Yield where each value of a document stands."""
    children = value.items() if isinstance(value, dict) else enumerate(value)
    for name, child in children:
        yield (*here, name)
        if isinstance(child, dict | list):
            yield from places(child, (*here, name))


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return value.replace("2028", "2029") if "2028" in value else f"{value}1"
    if isinstance(value, list):
        return [*value, keyid("d")]
    return {**value, "x-more": "1"}


def at(document: Any, place: Place) -> tuple[Any, str | int]:
    for name in place[:-1]:
        document = document[name]
    return document, place[-1]


# --- T-106: what is signed is what is read -------------------------------------------


@pytest.mark.parametrize("change", ["removed", "another", "moved"])
def test_any_value_of_a_proposal_is_changed_unseen(change: str) -> None:
    """Mallory changes one value on the way to Ben, who was told on the phone what Ada
    proposed. Whatever it is, he reads it, or the proposal is refused."""
    data = honest().data
    told = shown(data)
    document = json.loads(data)["signed"]
    refused = seen = 0
    for place in places(document):
        if place[0] == "x-issued":
            continue  # a time between the last root's and now says nothing else
        spoilt = copy.deepcopy(document)
        parent, name = at(spoilt, place)
        if change == "removed":
            del parent[name]
        elif change == "another":
            parent[name] = other(parent[name])
        elif isinstance(parent, dict):
            parent[f"{name}-"] = parent.pop(name)
        elif parent[name] == keyid("targets"):
            continue
        else:
            parent[name] = keyid("targets")
        changed = strict_json.canonical({"signatures": [], "signed": spoilt})
        try:
            found = shown(changed)
        except (RefusedError, MetadataFormatError):
            refused += 1
            continue
        assert found != told, place
        seen += 1
    assert refused > 10
    assert seen > 3
    # Untouched, it goes through.
    whole = signed(honest(), "a", "b", "d").finalize()
    assert follow([TRUSTED.data, whole.data]).trusted.version == 2


def test_a_proposal_renames_who_must_consent(tmp_path: object) -> None:
    """Eve proposes that Ada leaves, and calls Ada's key "Eve, retired" in her file."""
    known = json.loads(TRUSTED.data)["signed"]["keys"][keyid("a")]

    def rename(root: dict[str, Any]) -> None:
        root["x-holders"][keyid("a")] = {"name": "Eve, retired"}

    with pytest.raises(RefusedError, match="which it does not define"):
        shown(edited(honest().data, rename))

    def keep(root: dict[str, Any]) -> None:
        root["keys"][keyid("a")] = known
        rename(root)

    data = edited(honest().data, keep)
    rows = shown(data)
    leaving = next(row for row in rows if row[1].startswith("- "))
    assert leaving[1] == f"- {keyid('a')[:12]}  holder a"
    proposal = RootProposal.parse(data, trusted=TRUSTED.data)
    assert "holder a" in proposal.lacking()[0]
    assert not any("Eve" in one for one in proposal.lacking())
    # Who stays can't be renamed unseen.
    data = edited(
        honest().data,
        lambda root: root["x-holders"].update({keyid("b"): {"name": "Mallory"}}),
    )
    assert ("holder", f"{keyid('b')[:12]} Mallory (was holder b)", "") in shown(data)


def test_a_flood_of_fields_carries_the_change_off_the_screen() -> None:
    """Mallory hides the key that comes between ten thousand fields of "other tools"."""
    flood = {f"x-{number:05}": "noise" * 50 for number in range(700)}
    rows = shown(edited(honest().data, lambda root: root.update(flood)))
    assert len(rows) < MAX_OTHERS + 12
    assert all(len(part) < 200 for row in rows for part in row)
    assert any(row[1] == f"+ {keyid('d')}" for row in rows)
    assert rows[-1][0] == "effect"


@pytest.mark.parametrize(
    "name", ["a\x1b[2K\rholder b", "line\nline", "\u202eeve", " ", "x" * 201]
)
def test_a_name_that_moves_the_cursor(name: str) -> None:
    """A holder's name shall rewrite the line above it on the signer's terminal."""
    data = edited(
        honest().data,
        lambda root: root["x-holders"].update({keyid("d"): {"name": name}}),
    )
    with pytest.raises(RefusedError, match="name of a key's holder"):
        RootProposal.parse(data, trusted=TRUSTED.data)
    with pytest.raises(MetadataFormatError):
        Holder(name=name)


# --- T-107: signatures of something else ---------------------------------------------


def test_a_signature_of_another_payload_is_brought_in() -> None:
    """Ben's token is in a vault: he gets bytes to sign. Mallory gives him those of her
    own proposal, and the repository his signature."""
    ours = honest()
    theirs = following(plan("a", "b", "eve"), after=TRUSTED.data)
    made = key("b").sign(theirs.payload).signature
    with pytest.raises(RefusedError, match="does not verify") as caught:
        ours.with_signature(keyid("b"), made)
    assert ours.digest in str(caught.value.hint)
    assert ours.signed_by == frozenset()
    good = key("b").sign(ours.payload).signature
    assert ours.with_signature(keyid("b"), good).signed_by == {keyid("b")}


def test_a_signature_of_another_version_of_this_root() -> None:
    """A proposal of last year says the same, but for its times; its signatures are
    brought together with this year's."""
    early = following(plan(), "a", "b", after=TRUSTED.data)
    later = RootProposal.following(TRUSTED.data, plan(), now=NOW + timedelta(days=300))
    with pytest.raises(RefusedError, match="these are two proposals"):
        later.merge(early)
    entries = json.loads(early.data)["signatures"]
    value = {**json.loads(later.data), "signatures": entries}
    with pytest.raises(RefusedError, match="does not verify"):
        RootProposal.parse(strict_json.canonical(value), trusted=TRUSTED.data)
    assert signed(later, "a", "b").finalize().version == 2


# --- T-108: what would lock everybody out --------------------------------------------


def keys_that_nobody_verifies(root: dict[str, Any]) -> None:
    for one in root["roles"]["targets"]["keyids"]:
        root["keys"][one]["scheme"] = "ed25519"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda root: root.update({"x-issued": "2099-01-01T00:00:00Z"}),
            "not after it",
        ),
        (lambda root: root.update(expires="2026-11-21T10:00:01Z"), "in the past"),
        (keys_that_nobody_verifies, "Unsupported public key ecdsa/ed25519"),
        (lambda root: root["roles"]["root"].update(threshold=9), "threshold is 9"),
        (lambda root: root.update(version=2**53 - 1), "devices go from one version"),
        (lambda root: root.update({"x-pad": "x" * 510_000}), "more than the limit"),
    ],
)
def test_a_proposal_that_ends_everything(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """A root that two holders sign in good faith, and after which no device, or no
    holder, could go on."""
    data = edited(honest().data, change)
    with pytest.raises((RefusedError, MetadataFormatError), match=message):
        RootProposal.parse(data, trusted=TRUSTED.data).check_time(
            NOW + timedelta(minutes=1)
        )


def test_a_root_from_the_future() -> None:
    """Devices take a root's signed time as a floor: one of the year 2040 would let
    everything else have expired."""
    later = NOW + timedelta(days=5000)
    wanted = plan(periods={"root": timedelta(days=3650)})
    proposal = RootProposal.following(TRUSTED.data, wanted, now=later)
    with pytest.raises(RefusedError, match="and this machine's clock says"):
        proposal.check_time(NOW)
    honest().check_time(NOW - timedelta(hours=20))  # the root before is as old
    soon = RootProposal.following(TRUSTED.data, wanted, now=NOW + timedelta(minutes=59))
    soon.check_time(NOW)  # a clock that is a little slow


def test_a_key_of_a_scheme_that_is_not_its_own() -> None:
    """The new targets key is an ECDSA key that calls itself RSA: nothing that it signs
    would ever count."""
    import hashlib

    from securesystemslib.signer import SSlibKey

    from margo_supplychain.formats import canonical_json

    form = key("t2").public_key.to_dict()
    form.update(keytype="rsa", scheme="rsassa-pss-sha256")
    named = hashlib.sha256(canonical_json.encode(form)).hexdigest()
    wrong = SSlibKey.from_dict(named, copy.deepcopy(form))

    def spoil(root: dict[str, Any]) -> None:
        root["keys"][named] = form
        root["roles"]["targets"]["keyids"] = [named]

    with pytest.raises(RefusedError, match="which nothing here verifies"):
        RootProposal.parse(edited(honest().data, spoil), trusted=TRUSTED.data)
    with pytest.raises(KeyFormatError, match="which nothing here verifies"):
        plan(targets=type(role("a"))(keys=(wrong,)))


# --- T-109: another root of trust ----------------------------------------------------


def test_roots_on_a_stick_that_mallory_signed() -> None:
    """Ben has the first root from the installation. Mallory puts her own second root
    on the stick, with a proposal that follows it and names Ben as he is."""
    takeover = edited(
        honest().data,
        lambda root: root["roles"]["root"].update(keyids=[keyid("b"), keyid("d")]),
    )
    forged = resigned(takeover, "d", "b")
    with pytest.raises(ThresholdError, match="root v2 has 1 of 2 required signatures"):
        follow([TRUSTED.data, forged])
    whole = signed(honest(), "a", "b", "d").finalize()
    assert follow([TRUSTED.data, whole.data]).trusted.version == 2


def test_a_first_root_where_one_is_trusted() -> None:
    """Mallory hands Ben a proposal of version 1, as if nothing was there."""
    mine = first("a", "b", "c")
    with pytest.raises(RefusedError, match="root v1 is trusted already"):
        RootProposal.parse(mine.data, trusted=TRUSTED.data)
    # To whoever trusts no root yet, it is what its sha256 says; never more.
    taken = RootProposal.parse(mine.data, trusted=None)
    assert taken.old is None
    assert taken.difference().before is None


def test_one_holder_less_than_needed_whatever_she_signs() -> None:
    """Ada alone, with every key that she can make."""
    names = ["a", *(f"made {number}" for number in range(10))]
    proposal = following(plan(*names, threshold=1), *names, after=TRUSTED.data)
    assert proposal.new.met
    assert proposal.old is not None
    assert not proposal.old.met
    with pytest.raises(IncompleteError, match="old root needs 1 more"):
        proposal.finalize()
    with pytest.raises(ThresholdError, match="root v2 has 1 of 2 required"):
        follow([TRUSTED.data, proposal.data])
