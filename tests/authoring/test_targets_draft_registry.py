"""Targets that was signed apart is adopted in a registry, killed at any request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.errors import InconclusiveError, ThresholdError
from margo_supplychain.verify.trust_store import TrustStore
from tests.authoring.ceremony import keys_of
from tests.authoring.killing import Killed, Stop, cut_off, killed
from tests.authoring.tagged import TaggedVendor
from tests.authoring.trust import key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def vendor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaggedVendor:
    return TaggedVendor.moved(tmp_path, monkeypatch, release="1.0.0")


@pytest.mark.parametrize("how", [killed, cut_off])
@pytest.mark.parametrize("also", [("offline",), ()], ids=["both", "new"])
def test_killed_at_any_request(
    vendor: TaggedVendor, how: Callable[[], BaseException], also: tuple[str, ...]
) -> None:
    """Signed by both, no device ever refuses; else in one gap alone. Run again, with
    the same file, it goes on."""
    new = keys_of("t-1", "t-2", threshold=2)
    repository, clock = vendor.at_registry(), vendor.clock
    plan = replace(repository.plan(clock=clock), targets=new)
    proposal = repository.propose_root(plan, clock=clock).sign(key("offline"))
    draft = repository.draft_targets(proposal, clock=clock)
    for name in ("t-1", "t-2", *also):
        draft = draft.sign(key(name))
    root, start, gaps = proposal.finalize(), vendor.registry, set()

    def finalize(stop: Stop | None = None) -> None:
        place = vendor.at_registry() if stop is None else vendor.at_registry(stop)
        place.adopt_root(root, [key("ci")], targets=draft.data, clock=clock)

    for at in range(1, 1000):
        vendor.registry = start.copy()
        store = TrustStore.unsafe_without_memory(root=vendor.root, publishers=None)
        device = vendor.device_there(store)
        device.refresh()
        ended = False
        try:
            finalize(Stop(at, how))
            ended = True
        except (Killed, InconclusiveError):
            pass
        try:
            device.refresh()
        except ThresholdError:
            assert not also
            gaps.add(at)
        finalize()
        device.refresh()
        assert vendor.newest_there() == "1.0.0"
        assert vendor.at_registry().check(clock=clock).violations == ()
        if ended:
            assert at > 10
            break
    assert bool(gaps) == (not also)
