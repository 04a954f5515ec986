"""An operator whose repository lies in a registry: vendors have content in theirs."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from margo_supplychain.errors import ConflictError
from margo_supplychain.transport.tagged_sink import TaggedSink
from tests.attacks.forging import hand_in, listing, role
from tests.authoring.market import FAN, LAMP, PUMP, Market
from tests.authoring.tagged import HOST, TRUST, Contents, EveryRepository, TaggedVendor
from tests.authoring.trust import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from margo_supplychain.authoring.accepted import Accepted
    from margo_supplychain.authoring.release import Release
    from margo_supplychain.formats.names import ReleaseName


@dataclass
class RegistryMarket(TaggedVendor, Market):
    """A market whose repository was moved into a registry."""

    profile: str = "standard"

    def put(self, release: Release, url: str) -> None:
        """Let a vendor push a release's content to a repository of his."""
        sink = TaggedSink(self.registry.repository(url))
        for part in release.parts():
            with release.open(part.descriptor) as stream:
                data = stream.read()
            if part.role == "manifest":
                sink.put_manifest(part.descriptor, data, tag=release.version.tag)
            else:
                sink.put_blob(part.descriptor, io.BytesIO(data))

    def hand_in_located(
        self, version: str, name: ReleaseName, url: str, *, push: bool = True
    ) -> str:
        """Hand in a release that lies in a registry."""
        made = replace(self.release(version, name=name), locations=(url,))
        if push:
            self.put(made, url)
        change, targets, _ = listing(self, made)
        file = role(self, name.role, change)
        return hand_in(self, file, targets=targets, publisher=name.publisher)

    def accept_there(
        self, before: Callable[[str], None] = lambda _: None, **options: Any
    ) -> Accepted:
        """Let the operator accept in the registry."""
        return self.at_registry(before).accept(
            self.inbox,
            [key("ci")],
            clock=self.clock,
            content=EveryRepository(self.registry),
            **options,
        )


@pytest.fixture
def market(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RegistryMarket:
    found = RegistryMarket(tmp_path)
    found.open_market()
    found.move()
    found.registry.install(monkeypatch)
    return found


def test_two_vendors(market: RegistryMarket) -> None:
    """Content stays where its vendor has it; nothing is pushed but trust metadata."""
    market.hand_in_located("1.1.0", PUMP, f"{HOST}/acme-shop/pump")
    market.hand_in_located("1.1.0", LAMP, f"{HOST}/globex/lamp")
    before = market.registry.copy()
    done = market.accept_there()
    assert done.refused == ()
    assert [market.newest_there(one) for one in (PUMP, LAMP)] == ["1.1.0", "1.1.0"]
    for url, there in before.repositories.items():
        if url != TRUST:
            assert market.registry.at(url) == there


def test_content_without_a_registry(market: RegistryMarket) -> None:
    market.hand_in("1.1.0")
    before = market.registry.copy()
    done = market.accept_there()
    assert "names no registry with its content" in done.refused[0].reason
    assert market.registry == before


def test_content_that_is_not_there(market: RegistryMarket) -> None:
    url = f"{HOST}/acme-shop/pump"
    market.hand_in_located("1.1.0", PUMP, url, push=False)
    market.hand_in_located("1.1.0", LAMP, f"{HOST}/globex/lamp")
    done = market.accept_there()
    assert [one.publisher for one in done.taken] == ["globex"]
    assert done.refused[0].is_open
    assert done.refused[0].code == "fetch"


@pytest.mark.parametrize("url", [TRUST, f"{HOST}/globex/lamp"])
def test_nothing_is_pushed_on_a_vendors_word(market: RegistryMarket, url: str) -> None:
    """A record names the trust repository, or that of another vendor, and brings its
    content along: the operator's login puts none of it there."""
    made = replace(market.release("9.0.0", name=PUMP), locations=(url,))
    change, targets, blobs = listing(market, made)
    hand_in(market, role(market, PUMP.role, change), targets=targets, blobs=blobs)
    before = market.registry.copy()
    done = market.accept_there()
    assert done.taken == ()
    assert len(done.refused) == 1
    for place, there in market.registry.repositories.items():
        assert there == before.repositories.get(place, Contents())


def test_somebody_publishes_meanwhile(market: RegistryMarket) -> None:
    """A vendor with keys of the repository's own was faster: it starts again."""
    market.hand_in_located("1.1.0", PUMP, f"{HOST}/acme-shop/pump")
    market.hand_in_located("1.1.0", FAN, f"{HOST}/acme-shop/fan")
    done: list[str] = []

    def before(what: str) -> None:
        if what == "put timestamp" and not done:
            done.append(what)
            with market.at_registry().edit([key("ci")], clock=market.clock) as edit:
                edit.refresh()

    found = market.accept_there(before)
    assert len(found.taken) == 2
    assert done == ["put timestamp"]
    assert [market.newest_there(one) for one in (PUMP, FAN)] == ["1.1.0", "1.1.0"]


def test_somebody_publishes_again_and_again(market: RegistryMarket) -> None:
    market.hand_in_located("1.1.0", PUMP, f"{HOST}/acme-shop/pump")

    def before(what: str) -> None:
        if what == "put timestamp":
            with market.at_registry().edit([key("ci")], clock=market.clock) as edit:
                edit.refresh()

    with pytest.raises(ConflictError):
        market.accept_there(before)
    assert len(market.inbox.names().names) == 1
    # The last try may have been published all the same: an answer was all it lacked.
    done = market.accept_there()
    assert len(done.taken) + len(done.known) == 1
    assert market.newest_there(PUMP) == "1.1.0"
