"""What an operator takes in: several vendors, in any order, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.authoring.market import FAN, LAMP, PUMP, Market

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def market(tmp_path: Path) -> Market:
    found = Market(tmp_path)
    found.open_market()
    return found


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
    assert market.repository.check(clock=market.clock).violations == ()
    assert list(market.inbox.directory.iterdir()) == []


def test_two_vendors_at_once(market: Market) -> None:
    market.hand_in("1.1.0", PUMP)
    market.hand_in("1.1.0", LAMP)
    market.hand_in("1.1.0", FAN)
    before = market.version("snapshot")
    done = market.accept()
    assert len(done.taken) == 3
    assert market.version("snapshot") == before + 1
    assert [market.newest(one) for one in (PUMP, LAMP, FAN)] == ["1.1.0"] * 3
    assert market.repository.check(clock=market.clock).violations == ()
