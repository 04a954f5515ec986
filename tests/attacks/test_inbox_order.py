"""Who holds a key that is taken away hands in something first, and what waits decides
what of both is taken; or what nobody looked at becomes installable by another door.

Each test is first sane, then attacked, then says what the operator or vendor is told,
and ends with what is honest published.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.inbox_order import followed_by
from margo_supplychain.authoring.submission_file import Claim
from margo_supplychain.errors import FetchError
from margo_supplychain.formats.digests import Digest
from margo_supplychain.formats.names import publisher_patterns
from margo_supplychain.formats.publisher_policy import PublisherPolicy, Reinstatement
from margo_supplychain.formats.versions import Version
from tests.attacks.forging import delegate, hand_in, listing, refused, role, set_policy
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


# --- T-187: what nobody looked at, by the publisher's word alone ---------------------


def artifact_of(market: Market, version: str) -> Digest:
    """Return the artifact of a release of pump that is marked."""
    listed = market.signed(f"{market.version('acme.pump')}.acme.pump.json")["targets"]
    custom = listed[PUMP.release_path(version)]["custom"]
    assert "withdrawn" in custom
    return Digest.parse(custom["artifact"])


def withdrawn_unseen(market: Market) -> list[bytes]:
    """Publish pump 1.1.0 as withdrawn from the start; return what nobody has seen."""
    release = market.release("1.1.0", b"never taken in", name=PUMP)
    mark = {"reason": "a mistake", "since": "2026-11-21T10:00:00Z"}
    change, targets, blobs = listing(market, release, withdrawn=mark)
    hand_in(market, role(market, "acme.pump", change), targets=targets)
    assert len(market.accept().taken) == 1
    assert market.newest() == "1.0.0"
    return blobs


def test_release_without_content_is_reinstated_by_submission(market: Market) -> None:
    """Acme's offline key alone makes the mark void, and acme.pump signs nothing."""
    unseen = withdrawn_unseen(market)
    void = Reinstatement(artifact=artifact_of(market, "1.1.0"), up_to=2)
    policy = PublisherPolicy(epoch=1, provenance="none", reinstated=(void,))
    change, targets = set_policy(PUMP, policy)
    evil = hand_in(market, role(market, "acme", change), targets=targets)
    refused(market, evil, "the content of acme/pump 1.1.0 neither comes with it")
    # With its content it may be, by the same door.
    again = role(market, "acme", change)
    hand_in(market, again, targets=targets, blobs=unseen)
    done = market.accept(discard=True)
    assert [one.releases for one in done.taken] == [("acme/pump 1.1.0",)]
    assert market.newest() == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()


def test_release_without_content_is_reinstated_in_place(market: Market) -> None:
    """The same where the operator's keys are at hand: his own edit refuses it."""
    withdrawn_unseen(market)
    before = market.files()
    keys = [*market.keys, key("acme")]
    with (
        pytest.raises(FetchError, match="does not exist") as caught,
        market.repository.edit(keys, clock=market.clock) as edit,
    ):
        edit.reinstate(PUMP, Version.parse("1.1.0"))
    assert "nothing was written" in (caught.value.hint or "")
    assert market.files() == before
    with market.repository.edit(keys, clock=market.clock) as edit:
        edit.set_policy(PUMP, MINIMUM)
    assert market.newest() == "1.0.0"


def test_bar_before_a_release_without_content_is_lifted(market: Market) -> None:
    """Reinstated below the minimum it harms nobody; then the minimum falls."""
    withdrawn_unseen(market)
    keys = [*market.keys, key("acme")]
    high = replace(MINIMUM, minimum_version=Version.parse("2.0.0"))
    with market.repository.edit(keys, clock=market.clock) as edit:
        edit.set_policy(PUMP, high)
        edit.reinstate(PUMP, Version.parse("1.1.0"))
    with market.repository.edit(keys, clock=market.clock) as edit:
        policy = edit.policy(PUMP)
    assert policy is not None
    lower = replace(policy, minimum_version=MINIMUM.minimum_version)
    with (
        pytest.raises(FetchError, match="does not exist"),
        market.repository.edit(keys, clock=market.clock) as edit,
    ):
        edit.set_policy(PUMP, lower)
    with market.repository.edit(keys, clock=market.clock) as edit:
        edit.set_policy(PUMP, replace(lower, reinstated=()))
    assert market.newest() == "1.0.0"


def test_check_looks_at_what_is_reinstated(market: Market) -> None:
    """Content that is lost after its mark became void is missed all the same."""
    market.hand_in("1.1.0")
    market.accept()
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("1.1.0"), reason="a mistake")
    market.accept()
    with market.submit("acme") as edit:
        edit.reinstate(PUMP, Version.parse("1.1.0"))
    market.accept()
    assert market.newest() == "1.1.0"
    assert market.repository.check(clock=market.clock).violations == ()
    digest = artifact_of(market, "1.1.0")
    (market.trust / "blobs" / "sha256" / digest.hex).unlink()
    (problem,) = market.repository.check(clock=market.clock).violations
    assert problem.text.startswith("acme/pump 1.1.0: ")
    assert not problem.inconclusive
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("1.1.0"), reason="lost")
    market.accept()
    assert market.repository.check(clock=market.clock).violations == ()
    assert market.newest() == "1.0.0"
