"""What an operator takes in: several vendors, in any order, again and again."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.authoring.acceptance import judge
from margo_supplychain.authoring.prospect import Prospect
from margo_supplychain.authoring.submission import OPERATOR
from margo_supplychain.errors import (
    ConflictError,
    FetchError,
    IncompleteError,
    MalformedError,
    RefusedError,
    StorageError,
    ThresholdError,
)
from margo_supplychain.formats.digests import Descriptor, Digest
from margo_supplychain.formats.names import ReleaseName
from margo_supplychain.formats.pins import Pin
from margo_supplychain.formats.publisher_policy import LayoutRule, RevokedFunctionary
from margo_supplychain.formats.versions import Version
from margo_supplychain.transport.directory import DirectorySink
from tests.attacks.forging import (
    all_of,
    entry,
    hand_in,
    listing,
    nothing,
    role,
    set_policy,
)
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.proving import signed_layout
from tests.authoring.trust import OPEN, key

if TYPE_CHECKING:
    from pathlib import Path

    from margo_supplychain.authoring.accepted import Accepted


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


def is_sound(market: Market) -> bool:
    """Say whether the repository is without a problem."""
    return market.repository.check(clock=market.clock).violations == ()


def taken(done: Accepted) -> list[str]:
    """Return what was taken, by publisher; nothing may be refused."""
    assert done.refused == ()
    return [one.publisher for one in done.taken]


# --- several at once -----------------------------------------------------------------


def test_a_release_of_a_vendor(market: Market) -> None:
    name = market.hand_in("1.1.0")
    assert market.newest() == "1.0.0"
    done = market.accept()
    assert [one.name for one in done.taken] == [name]
    assert done.taken[0].roles == (("acme.pump", 2),)
    assert done.taken[0].releases == ("acme/pump 1.1.0",)
    assert (done.refused, done.known, done.removed) == ((), (), (name,))
    assert set(done.written.roles) == {"acme.pump", "snapshot", "timestamp"}
    assert market.newest() == "1.1.0"
    assert is_sound(market)
    assert list(market.inbox.directory.iterdir()) == []


def test_two_vendors_at_once(market: Market) -> None:
    market.hand_in("1.1.0", PUMP)
    market.hand_in("1.1.0", LAMP)
    market.hand_in("1.1.0", FAN)
    before = market.version("snapshot")
    done = market.accept()
    assert len(taken(done)) == 3
    assert market.version("snapshot") == before + 1
    assert [market.newest(one) for one in (PUMP, LAMP, FAN)] == ["1.1.0"] * 3
    assert is_sound(market)


def test_an_empty_inbox_signs_nothing(market: Market) -> None:
    before = market.files()
    done = market.accept()
    assert done.written.roles == {}
    assert market.files() == before


def test_several_of_one_vendor_built_on_one_another(market: Market) -> None:
    """However they are called, they are taken in the order of their versions."""
    names = [market.hand_in(f"1.{number}.0") for number in range(1, 7)]
    assert names != sorted(names)  # what this is about: an inbox is in no order
    done = market.accept()
    assert len(taken(done)) == 6
    assert market.version(PUMP.role) == 7
    assert market.newest() == "1.6.0"
    assert is_sound(market)
    # Each of them has its file: what came before is known by its bytes.
    assert market.signed("4.acme.pump.json")["version"] == 4


def test_what_was_taken_is_recognised(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An inbox that keeps what it has changes nothing, and is said aloud."""
    first = market.hand_in("1.1.0")
    second = market.hand_in("1.2.0")
    monkeypatch.setattr(type(market.inbox), "remove", lambda *_: False)
    done = market.accept()
    assert done.removed == ()
    assert any("keeps 2 submissions" in one for one in done.warnings)
    before = market.files()
    done = market.accept()
    assert {one.name for one in done.known} == {first, second}
    assert (done.taken, done.refused) == ((), ())
    assert market.files() == before

    def broken(_: object, name: str) -> bool:
        raise StorageError(f"no {name}", path="inbox")

    monkeypatch.setattr(type(market.inbox), "remove", broken)
    done = market.accept()
    assert any(f"{first[:12]} stays in" in one for one in done.warnings)
    monkeypatch.undo()
    done = market.accept()
    assert set(done.removed) == {first, second}


def test_part_of_it_was_taken_already(market: Market) -> None:
    """A publisher's role came alone before, and comes again with an application's."""
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=Version.parse("0.1.0")))
    first = market.newest_in_inbox()
    with market.inbox.read(first) as submission:
        kept = submission.role("acme")
    assert kept is not None
    assert taken(market.accept()) == ["acme"]
    market.hand_in("1.1.0")
    second = market.newest_in_inbox()
    with market.inbox.read(second) as submission:
        both = replace(
            submission, roles=tuple(sorted((kept, *submission.roles), key=str_role))
        )
        market.inbox.put(both)
    market.inbox.remove(second)
    done = market.accept()
    assert done.taken[0].roles == (("acme.pump", 2),)
    assert is_sound(market)


def str_role(one: object) -> str:
    """Return the name of a role's file."""
    return str(getattr(one, "role", ""))


def test_only(market: Market) -> None:
    first, second = market.hand_in("1.1.0", PUMP), market.hand_in("1.1.0", LAMP)
    with pytest.raises(RefusedError, match=r"no submission in .* begins with 'ffff"):
        market.accept(only=["f" * 12])
    done = market.accept(only=[second[:12]])
    assert [one.name for one in done.taken] == [second]
    assert market.inbox.names().names == (first,)
    done = market.accept(only=["0" * 64])
    assert done.refused[0].is_open
    assert done.refused[0].code == "fetch"


# --- who may sign --------------------------------------------------------------------


def test_new_vendor_with_an_application_and_a_release(market: Market) -> None:
    """The operator knows a new vendor's public key, and nothing else."""
    name = ReleaseName.parse("initech/printer")
    keys = [key("offline"), key("ci")]
    with market.repository.edit(keys, clock=market.clock) as edit:
        edit.add_publisher("initech", [key("initech").public_key], threshold=1)
    with market.submit("initech", "initech-ci") as edit:
        ci = key("initech-ci").public_key
        edit.add_application(name, [ci], policy=OPEN)
        edit.add_release(market.release("1.0.0", name=name))
    done = market.accept()
    assert taken(done) == ["initech"]
    assert market.newest(name) == "1.0.0"
    assert is_sound(market)


def test_vendor_that_is_none_here(market: Market) -> None:
    market.hand_in("1.1.0")
    with market.inbox.read(market.newest_in_inbox()) as one:
        data = one.roles[0]
        role = replace(data, role="umbrella.virus")
        market.inbox.put(
            replace(one, publisher="umbrella", roles=(role,), targets=(), content=())
        )
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["acme"]
    assert "umbrella: targets delegates to no umbrella" in done.refused[0].reason
    assert done.refused[0].hint is not None


def test_keys_of_an_application_are_rotated(market: Market) -> None:
    with market.submit("acme", "acme-ci-2") as edit:
        edit.rotate_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    assert taken(market.accept()) == ["acme"]
    with market.submit("acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.1.0"
    assert is_sound(market)


def test_stolen_key_is_cut_off(market: Market) -> None:
    """The publisher takes a key away before the new one has signed: he says so
    himself, so the operator takes it, and says what follows."""
    with market.submit("acme") as edit:
        edit.cut_off_keys(PUMP.role, [key("acme-ci-2").public_key], threshold=1)
    done = market.accept()
    assert taken(done) == ["acme"]
    assert any("acme.pump is cut off from its keys" in one for one in done.warnings)
    with pytest.raises(ThresholdError):
        market.newest()
    assert market.newest(FAN) == "1.0.0"
    with market.submit("acme-ci-2") as edit:
        edit.add_release(market.release("1.1.0", name=PUMP))
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.1.0"
    assert is_sound(market)


def test_application_is_removed(market: Market) -> None:
    with market.submit("acme") as edit:
        edit.remove_application(PUMP)
    done = market.accept()
    assert taken(done) == ["acme"]
    assert any("acme.pump is removed" in one for one in done.warnings)
    assert market.newest(FAN) == "1.0.0"


def test_sibling_that_has_expired_stands_in_nobodys_way(market: Market) -> None:
    """Nobody renewed acme.fan: that is its holder's duty, and acme/pump goes on."""
    with market.repository.edit(
        [key("ci"), key("acme-ci")], clock=market.clock
    ) as edit:
        edit.refresh()
    market.clock.when += timedelta(days=170)
    everybody = [*market.keys, *map(key, ("acme", "acme-ci", "globex"))]
    with market.repository.edit(
        everybody, clock=market.clock, time_checked=True
    ) as edit:
        edit.refresh(PUMP.role)
        edit.refresh()
    market.clock.when += timedelta(days=20)
    with market.repository.edit(market.keys, clock=market.clock) as edit:
        edit.refresh()
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=Version.parse("0.1.0")))
    done = market.accept()
    assert taken(done) == ["acme"]
    assert any("its holder must sign it again" in one for one in done.warnings)


# --- the operator's own role ---------------------------------------------------------


def test_targets_signed_apart(market: Market) -> None:
    """Holders of targets sign a new publisher apart; online keys take it in."""
    with market.submit("offline") as edit:
        edit.add_publisher("initech", [key("initech").public_key], threshold=1)
    done = market.accept()
    assert taken(done) == [OPERATOR]
    assert done.taken[0].roles == (("targets", 3),)
    assert any("initech becomes a publisher" in one for one in done.warnings)
    assert is_sound(market)


def test_publisher_is_removed_apart(market: Market) -> None:
    with market.submit("offline") as edit:
        edit.remove_publisher("globex")
    done = market.accept()
    assert taken(done) == [OPERATOR]
    assert any("globex is removed" in one for one in done.warnings)
    assert market.newest() == "1.0.0"


# --- what may happen meanwhile -------------------------------------------------------


def test_somebody_published_meanwhile(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like every edit, it starts again once from what somebody else has published."""
    market.hand_in("1.1.0")
    place = type(market.repository.place)
    commit, failures = place.commit, [ConflictError("somebody was faster")]

    def conflict(self: object, work: object) -> None:
        if failures:
            raise failures.pop()
        commit(self, work)  # type: ignore[arg-type]  # as it was called

    monkeypatch.setattr(place, "commit", conflict)
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.1.0"


def test_together_devices_would_refuse_them(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If what each alone passes fails together, one of them does not stop the rest."""
    market.hand_in("1.1.0", PUMP)
    market.hand_in("1.1.0", LAMP)
    finish = usual_finish()

    def picky(work: object, **options: object) -> object:
        if "globex.lamp" in getattr(work, "adopted", {}):
            raise MalformedError("devices would refuse it")
        return finish(work, **options)  # type: ignore[operator]  # as it was called

    monkeypatch.setattr("margo_supplychain.authoring.repository.finish", picky)
    done = market.accept()
    assert [one.publisher for one in done.taken] == ["acme"]
    assert [one.reason for one in done.refused] == ["globex: devices would refuse it"]
    assert market.newest() == "1.1.0"
    assert len(market.inbox.names().names) == 1
    # With nothing else, the error is what it is.
    with pytest.raises(MalformedError, match="devices would refuse it"):
        market.accept()


def usual_finish() -> object:
    """Return how an edit ends."""
    from margo_supplychain.authoring.ending import finish

    return finish


def test_keys_of_the_operator_are_needed(market: Market) -> None:
    market.hand_in("1.1.0")
    before = market.files()
    with pytest.raises(IncompleteError, match="snapshot needs 1 more"):
        market.repository.accept(market.inbox, [key("acme")], clock=market.clock)
    assert {name for name in market.files() if name.startswith("metadata")} == {
        name for name in before if name.startswith("metadata")
    }
    assert market.newest() == "1.0.0"


def test_content_that_lies_in_a_registry_nobody_asks(market: Market) -> None:
    """A record names a registry: it is asked, or the vendor is told that it is not."""
    made = replace(
        market.release("1.1.0", name=PUMP), locations=("oci://registry.example/pump",)
    )
    change, targets, _ = listing(market, made)
    hand_in(market, role(market, PUMP.role, change), targets=targets)
    done = market.accept()
    assert done.refused[0].is_open
    assert "nobody is asked for acme/pump 1.1.0" in done.refused[0].reason

    class Registry:
        """One place that has everything."""

        def sources(self, locations: object) -> list[object]:
            assert locations == ("oci://registry.example/pump",)
            return [Gone(), made.source]

    class Gone:
        """One that has nothing."""

        url = "oci://gone.example/pump"

        def blob(self, what: object, **_: object) -> object:
            raise FetchError(f"no {what}", url=self.url, missing=True)

    done = market.accept(content=Registry())
    assert taken(done) == ["acme"]
    assert market.newest() == "1.1.0"
    assert is_sound(market)


def test_the_judge_for_vendors(market: Market) -> None:
    """`judge` says of one submission what the operator will say."""
    name = market.hand_in("1.1.0")
    repository = market.repository
    with (
        repository.edit((), clock=market.clock, time_checked=True) as edit,
        market.inbox.read(name) as submission,
    ):
        work = edit._work
        before = Prospect(work.state, work.place, now=market.clock.when)
        found = judge(before, submission)
    assert [str(one.version) for one in found.releases()] == ["1.1.0"]
    assert found.after.version(PUMP.role) == 2
    assert not found.is_known


# --- what offline keys may do --------------------------------------------------------


def test_release_leaves_with_a_higher_epoch(market: Market) -> None:
    """After a stolen key: the offline key begins a new epoch, without what it did."""
    market.hand_in("9.0.0")
    assert taken(market.accept()) == ["acme"]
    change, targets = set_policy(
        PUMP, replace(OPEN, epoch=2, minimum_version=Version.parse("1.0.0"))
    )
    path = PUMP.release_path("9.0.0")
    own = role(market, PUMP.role, lambda signed: signed["targets"].pop(path))
    hand_in(market, role(market, "acme", change), own, targets=targets)
    done = market.accept()
    assert taken(done) == ["acme"]
    assert any("1 releases of acme/pump leave the list" in one for one in done.warnings)
    assert market.newest() == "1.0.0"
    assert is_sound(market)


def test_release_that_comes_withdrawn(market: Market) -> None:
    """It was published and taken back while it waited: devices never see it open."""
    market.hand_in("1.1.0")
    with market.submit("acme-ci") as edit:
        edit.withdraw(PUMP, Version.parse("1.1.0"), reason="leaks")
    done = market.accept()
    assert taken(done) == ["acme", "acme"]
    assert any("acme/pump 1.1.0 is withdrawn: leaks" in one for one in done.warnings)
    assert market.newest() == "1.0.0"
    made = market.release("1.2.0", name=PUMP)
    change, targets, blobs = listing(
        market, made, withdrawn={"reason": "leaks", "since": "2026-11-21T10:00:00Z"}
    )
    file = role(market, PUMP.role, change)
    hand_in(market, file, targets=targets, blobs=blobs)
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.0.0"
    with market.submit("acme-ci") as edit:
        edit.withdraw(
            PUMP,
            Version.parse("1.2.0"),
            reason="leaks",
            use=Version.parse("1.0.0"),
        )
    assert taken(market.accept()) == ["acme"]
    # Signed again, its mark stays as it was.
    market.hand_in("1.3.0")
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.3.0"


def test_layout_that_the_policy_names(market: Market) -> None:
    layout = signed_layout("acme")
    digest = Digest.of(layout)
    every = Pin.range("*", grammar="npm")
    rule = LayoutRule(number=1, digest=digest, range=every)
    change, targets = set_policy(PUMP, replace(OPEN, layouts=(rule,)))
    path = PUMP.layout_path(1)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(layout)

    file = role(market, "acme", all_of(change, add))
    hand_in(market, file, targets={**targets, path: layout})
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.0.0"


def test_layout_alone_comes_before_its_policy(market: Market) -> None:
    """What no policy changes is judged by the policy that stands."""
    layout = b"{}"
    path = PUMP.layout_path(1)

    def add(signed: dict[str, Any]) -> None:
        signed["targets"][path] = entry(layout)

    hand_in(market, role(market, "acme", add), targets={path: layout})
    assert "which its policy does not name" in market.accept().refused[0].reason


def test_content_that_is_here_already(market: Market) -> None:
    """Handed in again after a refusal, content need not come again."""
    made = market.release("1.1.0", name=PUMP)
    change, targets, blobs = listing(market, made)
    sink = DirectorySink(market.trust)
    for data in blobs:
        what = Descriptor.of(data, "application/octet-stream")
        sink.put_blob(what, io.BytesIO(data))
    hand_in(market, role(market, PUMP.role, change), targets=targets)
    assert taken(market.accept()) == ["acme"]
    assert market.newest() == "1.1.0"


def test_many_releases_are_said_aloud(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("margo_supplychain.authoring.rules.MANY_RELEASES", 1)
    market.hand_in("1.1.0")
    done = market.accept()
    assert any("acme.pump v2 lists 2 releases" in one for one in done.warnings)


def test_profile_simple_takes_nothing(tmp_path: Path) -> None:
    simple = Market(tmp_path, profile="simple")
    simple.create_with_pump()
    simple.inbox.directory.mkdir()
    file = role(simple, "targets", nothing, "offline")
    hand_in(simple, file, publisher="targets")
    done = simple.accept()
    assert "the profile simple takes no submission" in done.refused[0].reason


def test_application_that_nobody_could_follow_before(market: Market) -> None:
    """What was broken before is no reason to refuse what does not make it worse."""
    keys = [*market.keys, key("acme")]
    with market.repository.edit(keys, clock=market.clock) as edit:
        new = key("fan-ci").public_key
        edit.cut_off_keys(FAN.role, [new], threshold=1)
    with market.submit("acme") as edit:
        edit.set_policy(PUMP, replace(OPEN, minimum_version=Version.parse("0.1.0")))
    done = market.accept()
    assert taken(done) == ["acme"]
    assert market.newest() == "1.0.0"


def test_changed_while_it_was_read(
    market: Market, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = market.hand_in("1.1.0")
    with market.inbox.read(name) as whole:
        other = replace(whole, content=())
        monkeypatch.setattr(type(market.inbox), "signed", lambda *_: other)
        done = market.accept()
    assert "changed while it was read" in done.refused[0].reason
    assert market.newest() == "1.0.0"


def test_policy_that_was_lost_here(market: Market) -> None:
    """The operator's disk lost two policies: what concerns others goes on, and a new
    one takes the place of what nobody has."""
    for name in (PUMP, FAN):
        for path in (market.trust / "targets/acme/policies" / name.name).iterdir():
            path.unlink()
    lost = (RevokedFunctionary(key="ab" * 32),)
    change, targets = set_policy(PUMP, replace(OPEN, revoked_functionaries=lost))
    hand_in(market, role(market, "acme", change), targets=targets)
    done = market.accept()
    assert taken(done) == ["acme"]
    assert any("acme/pump was damaged or lost" in one for one in done.warnings)
    market.hand_in("1.1.0", LAMP)
    assert taken(market.accept()) == ["globex"]


def test_operator_who_is_late(market: Market) -> None:
    """While targets has expired nothing can be taken, and that is no vendor's fault:
    nothing of his is discarded."""
    market.clock.when += timedelta(days=350)
    with market.repository.edit(
        market.keys, clock=market.clock, time_checked=True
    ) as edit:
        edit.refresh()
    keys = [key("ci"), key("acme"), key("acme-ci")]
    with market.repository.edit(keys, clock=market.clock) as edit:
        edit.refresh("acme")
        edit.refresh(PUMP.role)
    market.hand_in("1.1.0")
    market.clock.when += timedelta(days=16)
    done = market.accept(discard=True)
    assert done.refused[0].is_open
    assert done.removed == ()
    assert any("before the operator acts: targets" in one for one in done.warnings)
    # Its holder has a memory, which says that he is shown no old copy.
    with market.submit("offline", state=market.store("holder")) as edit:
        edit.refresh("targets")
    assert taken(market.accept()) == [OPERATOR, "acme"]
    assert market.newest() == "1.1.0"
