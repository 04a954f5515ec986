"""Killed at any write of `repo accept`: the old state or the new one stands, and the
next run goes on from it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from margo_supplychain.formats.pins import Pin
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.trust import key
from tests.faults.crash import Crash, Loss, crash_points

if TYPE_CHECKING:
    from pathlib import Path


def at(copy: Path, original: Market) -> Market:
    """Return the market of a copied directory."""
    return Market(copy, clock=original.clock)


def installed(market: Market, store: TrustStore | None = None) -> str:
    """Return what a device has of acme/pump, content and all."""
    device = market.device(store)
    release = device.verify(PUMP, Pin.range("*", grammar="npm"))
    target = market.directory / "fetched"
    device.fetch(release, target)
    shutil.rmtree(target)
    return str(release.version)


def handed_in(original: Market) -> str:
    """Let two vendors hand in releases and a rotation, and somebody rubbish."""
    original.open_market()
    original.hand_in("1.1.0", PUMP)
    original.hand_in("1.1.0", LAMP)
    with original.submit("acme", "fan-ci") as edit:
        edit.rotate_keys(FAN.role, [key("fan-ci").public_key], threshold=1)
    rubbish = "0" * 64
    (original.inbox.directory / f"{rubbish}.tar").write_bytes(b"rubbish")
    return rubbish


def test_accept(tmp_path: Path) -> None:
    original = Market(tmp_path / "start")
    rubbish = handed_in(original)

    def accept(copy: Path) -> None:
        at(copy, original).accept()

    def check(copy: Path, crash: Crash) -> None:
        market = at(copy, original)
        seen = installed(market)
        assert seen in ({"1.1.0"} if crash.finished else {"1.0.0", "1.1.0"})
        # All of it is published, or nothing.
        assert market.newest(LAMP) == seen
        assert market.repository.check(clock=market.clock).violations == ()
        done = market.accept()
        assert [one.name for one in done.refused] == [rubbish]
        if seen == "1.0.0":
            assert len(done.taken) == 3
        else:
            assert done.taken == ()
        if crash.finished:
            assert done.known == ()
        assert market.inbox.names().names == (rubbish,)
        assert installed(market) == market.newest(LAMP) == "1.1.0"
        assert (market.version(FAN.role), market.version("acme")) == (2, 2)
        if crash.loss is not Loss.UNSYNCED:
            return
        # Vendors and operator go on.
        market.hand_in("1.2.0", PUMP)
        assert len(market.accept().taken) == 1
        assert installed(market) == "1.2.0"
        assert market.repository.check(clock=market.clock).violations == ()
        assert not any(".tmp-" in name for name in market.files())

    writes = crash_points(original.directory, accept, check, scratch=tmp_path)
    assert writes > 30


def test_accept_with_a_memory(tmp_path: Path) -> None:
    """The operator's memory survives with the repository."""
    original = Market(tmp_path / "start")
    handed_in(original)
    original.store("operator")

    def accept(copy: Path) -> None:
        at(copy, original).accept(state=TrustStore.open(copy / "operator"))

    def check(copy: Path, _: Crash) -> None:
        market = at(copy, original)
        store = TrustStore.open(copy / "operator")
        market.accept(state=store)
        assert installed(market, store) == "1.1.0"
        assert market.repository.check(clock=market.clock, state=store).violations == ()

    losses = [Loss.UNSYNCED]
    crash_points(original.directory, accept, check, scratch=tmp_path, losses=losses)


def test_vendor_who_was_killed_out_of_the_way(tmp_path: Path) -> None:
    """A run was killed after a vendor's file had its name, and the vendor took his
    submission back: the name stays taken, and he hands in under the next."""
    original = Market(tmp_path / "start")
    original.open_market()
    name = original.hand_in("1.1.0", PUMP)

    def accept(copy: Path) -> None:
        at(copy, original).accept()

    def check(copy: Path, crash: Crash) -> None:
        market = at(copy, original)
        if crash.finished or market.newest() == "1.1.0":
            return
        market.inbox.remove(name)
        market.hand_in("1.2.0", PUMP)
        done = market.accept()
        assert done.refused == ()
        assert market.newest() == "1.2.0"
        assert market.repository.check(clock=market.clock).violations == ()

    losses = [Loss.UNSYNCED, Loss.NOTHING]
    crash_points(original.directory, accept, check, scratch=tmp_path, losses=losses)
