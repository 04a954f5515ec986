"""Killed at any request to a registry, or cut off: devices see the old state or the new
one, and the next publisher lands."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import InconclusiveError, MixAndMatchError
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.killing import Killed, Stop, cut_off, killed
from tests.authoring.tagged import TaggedVendor
from tests.authoring.trust import PUMP, key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.authoring.tagged import MemoryRegistry


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch, release="1.0.0")


def both(
    vendor: TaggedVendor,
    start: MemoryRegistry,
    monkeypatch: pytest.MonkeyPatch,
    stop: Stop,
) -> BaseException | None:
    vendor.registry = start.copy()
    vendor.registry.install(monkeypatch, stop)
    try:
        vendor.publish_there(vendor.release("1.1.0"), before=stop)
    except (Killed, InconclusiveError) as why:
        return why
    finally:
        vendor.registry.install(monkeypatch)
    return None


@pytest.mark.parametrize("how", [killed, cut_off])
def test_publish(
    vendor: TaggedVendor,
    monkeypatch: pytest.MonkeyPatch,
    how: Callable[[], BaseException],
) -> None:
    start = vendor.registry
    for at in range(1, 1000):
        vendor.registry = start.copy()
        device = TrustStore.unsafe_without_memory(root=vendor.root, publishers=None)
        vendor.device_there(device).refresh()
        stop = Stop(at, how)
        why = both(vendor, start, monkeypatch, stop)
        seen = vendor.newest_there()
        assert seen == ("1.1.0" if why is None else seen)
        assert seen in {"1.0.0", "1.1.0"}, stop.seen
        vendor.device_there(device).refresh()
        # Somebody else may be next.
        vendor.publish_there(vendor.release("1.2.0"))
        done = vendor.publish_there(vendor.release("1.1.0"))
        assert done.changed == (seen == "1.0.0"), stop.seen
        assert vendor.newest_there() == "1.2.0"
        vendor.device_there(device).refresh()
        report = vendor.at_registry().check(clock=vendor.clock)
        assert report.violations == ()
        if why is None:
            assert at > 20
            return
    raise AssertionError("is there a loop?")


def test_an_answer_that_gets_lost(
    vendor: TaggedVendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The registry took the timestamp, and the publisher never heard of it."""
    from tests.authoring.tagged import MemoryRepository

    put = MemoryRepository.put_manifest

    def lost(
        self: MemoryRepository, data: bytes, kind: str, *, tag: str | None
    ) -> None:
        put(self, data, kind, tag=tag)
        if tag == "timestamp":
            monkeypatch.setattr(MemoryRepository, "put_manifest", put)
            raise cut_off()

    monkeypatch.setattr(MemoryRepository, "put_manifest", lost)
    done = vendor.publish_there(vendor.release("1.1.0"))
    assert done.changed
    assert vendor.newest_there() == "1.1.0"


def test_what_a_racing_publisher_overwrote_is_read_by_digest(
    vendor: TaggedVendor,
) -> None:
    """He was killed between his write and the look at who was faster."""
    from tests.authoring.tagged import TRUST

    trust = vendor.registry.at(TRUST)
    named = dict(trust.tags)
    current = max(
        (tag for tag in named if tag.endswith(".snapshot")),
        key=lambda tag: int(tag.partition(".")[0]),
    )
    role = max(tag for tag in named if tag.endswith(f".{PUMP.role}"))
    trust.tags[current] = named["1.snapshot"]
    del trust.tags[role]
    with pytest.raises(MixAndMatchError, match="not the file that timestamp"):
        vendor.device_there().refresh()
    vendor.publish_there(vendor.release("1.1.0"))
    assert trust.tags[current] == named[current]
    assert trust.tags[role] == named[role]
    assert vendor.newest_there() == "1.1.0"
    with vendor.at_registry().edit([key("ci")], clock=vendor.clock) as edit:
        edit.refresh()
