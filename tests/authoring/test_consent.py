"""Who is asked for a signature next, and how they are called."""

from __future__ import annotations

from margo_supplychain.authoring import consent
from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.proposals import RootProposal
from tests.authoring.roots import first, following, keyid, plan, signed, trusted
from tests.authoring.trust import NOW

BEN = Holder(name="Ben", place="token root-b")


def in_order(proposal: RootProposal) -> list[str]:
    """Return who signs when everybody is asked as `next_key` says."""
    names = {keyid(name): name for name in "abcdef"}
    found = []
    while (wanted := consent.next_key(proposal)) is not None:
        found.append(names[wanted])
        proposal = signed(proposal, names[wanted])
    assert not proposal.lacking()
    return found


def test_who_counts_for_both_roots_is_asked_first() -> None:
    assert in_order(following(plan("d", "b", "c"))) == ["b", "c"]
    assert in_order(following(plan("d", "b", "c"), "b")) == ["c"]
    assert in_order(first()) == ["a", "b"]


def test_who_leaves_is_asked_last() -> None:
    assert in_order(following(plan("a", "d", "e"))) == ["a", "d", "b"]
    assert in_order(following(plan("d", "e", "f"))) == ["d", "e", "a", "b"]


def lacking(*names: str, threshold: int = 2, **holders: Holder) -> str:
    """Return what the old root lacks if these hold the new one."""
    said = {keyid(name): holder for name, holder in holders.items()}
    before = trusted(holders=said)
    wanted = plan(*names, threshold=threshold, holders=said)
    proposal = RootProposal.following(before.data, wanted, now=NOW)
    found = consent.lacking(proposal)[0]
    assert found.startswith("old root needs 2 more of ")
    return found.removeprefix("old root needs 2 more of ")


def test_a_key_that_leaves_is_called_by_its_token() -> None:
    a, b, c = (keyid(name)[:12] for name in "abc")
    left, ben = "keys that leave", "Ben (token root-b)"
    assert lacking("a", "c", "d", b=BEN) == f"{a}, {c}, or of {left}: {ben}"
    # Without two that stay there is no choice.
    assert lacking("a", "d", b=BEN) == f"{a}, and of {left}: {ben}, {c}"
    assert lacking("d", "e", b=BEN) == f"{left}: {a}, {ben}, {c}"
    # Two tokens of one name, or no token: by its id.
    assert f"Ben ({b})" in lacking("a", "d", b=BEN, d=BEN)
    assert f"Ben ({b})" in lacking("a", "d", b=Holder(name="Ben", place="file"))
    nameless = Holder(place="token root-b")
    assert f"{b} (token root-b)" in lacking("a", "d", b=nameless)


def test_the_same_key_under_another_id_does_not_leave() -> None:
    proposal = following(plan("a", "b", "d"))
    assert consent.leaving(proposal) == {keyid("c")}
    assert consent.leaving(first()) == frozenset()
