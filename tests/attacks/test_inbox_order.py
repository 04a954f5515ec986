"""Who holds a key that is taken away hands in something first, and what waits decides
what of both is taken; or what nobody looked at becomes installable by another door.

Each test is first sane, then attacked, then says what the operator or vendor is told,
and ends with what is honest published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.inbox_order import followed_by
from margo_supplychain.authoring.submission_file import Claim
from margo_supplychain.formats.names import publisher_patterns
from margo_supplychain.formats.publisher_policy import PublisherPolicy
from margo_supplychain.formats.versions import Version
from tests.attacks.forging import delegate, hand_in, listing, role
from tests.authoring.market import PUMP, Market
from tests.authoring.trust import key

if TYPE_CHECKING:
    from pathlib import Path

MINIMUM = PublisherPolicy(
    epoch=1, provenance="none", minimum_version=Version.parse("0.1.0")
)


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def change_policy(market: Market) -> str:
    """Let acme hand in something harmless; return its name."""
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, MINIMUM)
    return market.newest_in_inbox()


def rotate(market: Market, *, is_cut_off: bool = False) -> str:
    """Let acme take the stolen key away; return the submission's name."""
    with market.submit("acme", *(() if is_cut_off else ("acme-ci-2",))) as edit:
        rotating = edit.cut_off_keys if is_cut_off else edit.rotate_keys
        rotating("acme.pump", [key("acme-ci-2").public_key], threshold=1)
    return market.newest_in_inbox()


def backdoor(market: Market) -> str:
    """Let a thief of acme-ci hand in pump 6.6.6; return the submission's name."""
    change, targets, blobs = listing(
        market, market.release("6.6.6", b"evil", name=PUMP)
    )
    return hand_in(
        market, role(market, "acme.pump", change), targets=targets, blobs=blobs
    )


# --- T-185: a rotation that follows what waits ---------------------------------------


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_rotation_that_follows_what_waits(market: Market, *, is_cut_off: bool) -> None:
    """Acme changes a policy, notices the theft, and rotates; both wait, and between
    them lies what the thief handed in."""
    waits = change_policy(market)
    evil = backdoor(market)
    rotation = rotate(market, is_cut_off=is_cut_off)
    done = market.accept()
    assert [one.name for one in done.taken] == [waits, rotation]
    (refused,) = done.refused
    assert (refused.name, refused.code) == (evil, "threshold")
    if not is_cut_off:
        assert market.newest() == "1.0.0"
    with market.submit("acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    market.accept(discard=True)
    assert market.newest() == "1.1.0"


def test_hint_that_names_the_thief(market: Market) -> None:
    """The operator follows what he is told: nothing of it is the thief's."""
    waits = change_policy(market)
    evil = backdoor(market)
    rotation = rotate(market)
    done = market.accept(only=[rotation])
    assert done.taken == ()
    hint = done.refused[0].hint or ""
    assert f"together, --only {waits[:12]} --only {rotation[:12]}" in hint
    assert evil[:12] not in hint
    done = market.accept(only=[waits, rotation])
    assert [one.name for one in done.taken] == [waits, rotation]
    assert [one.name for one in market.accept().refused] == [evil]
    assert market.newest() == "1.0.0"


def test_vendor_is_told_all_that_the_operator_must_name(market: Market) -> None:
    """What waits of the stolen key is left, and what else waits is named."""
    waits = change_policy(market)
    left = market.hand_in("1.1.0")
    with market.submit("acme", "acme-ci-2") as edit:
        edit.rotate_keys("acme.pump", [key("acme-ci-2").public_key], threshold=1)
    (told,) = [one for one in edit.warnings if "takes this one before that" in one]
    assert told.endswith(f"names what it follows, too: --only {waits[:12]}")
    done = market.accept()
    assert [one.name for one in done.refused] == [left]
    assert market.newest() == "1.0.0"


def test_what_follows_what() -> None:
    """Lower versions of the same roles come before, but for those of a thief."""

    def claim(*roles: tuple[str, int], publisher: str = "acme") -> Claim:
        return Claim(publisher, tuple((*one, "0" * 64) for one in roles))

    claims = {
        "rotation": claim(("acme", 4), ("acme.fan", 3)),
        "middle": claim(("acme", 3), ("acme.lid", 2)),
        "low": claim(("acme", 2)),
        "fan": claim(("acme.fan", 2)),
        "lid": claim(("acme.lid", 1)),
        "thief": claim(("acme.fan", 2), ("acme.pump", 2)),
        "both": claim(("acme", 3), ("acme.pump", 2)),
        "same": claim(("acme", 4)),
        "other": claim(("acme", 1), publisher="globex"),
    }
    honest = {"middle", "low", "fan", "lid", "both"}
    assert followed_by(["rotation"], claims, taken={"acme.pump"}) == honest
    assert followed_by(["rotation"], claims) == {*honest, "thief"}
    assert followed_by(["nothing"], claims) == set()
    many = {str(number): claim(("acme", number)) for number in range(5_000)}
    assert len(followed_by(["4999"], many)) == 4_999


# --- T-186: the operator's own, and the thief of a publisher -------------------------


def test_operator_who_is_overtaken_by_the_thief(market: Market) -> None:
    """The thief of acme's own key takes keys away, too; the operator cuts him off."""
    change, targets, blobs = listing(
        market, market.release("6.6.6", b"evil", name=PUMP)
    )
    evil = hand_in(
        market,
        role(market, "acme", delegate("acme.pump", "thief-ci")),
        role(market, "acme.pump", change, "thief-ci"),
        targets=targets,
        blobs=blobs,
    )
    with market.submit("offline") as edit:
        edit.cut_off_keys("acme", [key("acme-2").public_key], threshold=1)
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["targets"]
    assert [(one.name, one.code) for one in done.refused] == [(evil, "threshold")]
    said = "acme is cut off from its keys"
    assert len([one for one in done.warnings if said in one]) == 1
    with market.submit("acme-2") as edit:
        edit.refresh("acme")
    market.accept(discard=True)
    assert market.newest() == "1.0.0"


def test_operator_who_waits_for_a_vendor(market: Market) -> None:
    """First in line, he still gets what only a vendor's new key lets him do."""
    both = [key("acme").public_key, key("acme-2").public_key]
    with market.submit("offline") as edit:
        edit.rotate_keys("acme", both, threshold=1)
    market.accept()
    with market.submit("acme", "acme-2") as edit:
        edit.refresh("acme")
    # His holder sits apart, and knows what acme has handed in.
    paths = publisher_patterns("acme")
    leaves = delegate("acme", "acme-2", paths=paths)
    hand_in(market, role(market, "targets", leaves, "offline"), publisher="targets")
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["acme", "targets"]
    assert done.refused == ()
    assert market.newest() == "1.0.0"
