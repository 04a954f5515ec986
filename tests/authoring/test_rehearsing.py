"""A ceremony played on a copy: everybody's stand-in signs, nothing else happens."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from margo_supplychain.authoring.holders import Holder
from margo_supplychain.authoring.proposals import RootProposal
from margo_supplychain.authoring.rehearsing import rehearse
from margo_supplychain.errors import RefusedError
from margo_supplychain.formats.times import format_time
from tests.authoring import thief
from tests.authoring.ceremony import keys_of
from tests.authoring.roots import edited
from tests.authoring.trust import Vendor, key


@pytest.fixture
def filled(vendor: Vendor) -> Vendor:
    vendor.create_with_pump()
    vendor.publish("1.0.0")
    return vendor


def proposed(vendor: Vendor) -> RootProposal:
    new = keys_of("r-1", "r-2", "r-3", threshold=2)
    plan = vendor.repository.plan(clock=vendor.clock)
    names = {key(one).public_key.keyid: one for one in ("r-1", "r-2", "r-3")}
    holders = {keyid: Holder(name=f"holder {one}") for keyid, one in names.items()}
    plan = replace(
        plan,
        root=new,
        snapshot=keys_of("ci-2"),
        timestamp=keys_of("ci-2"),
        holders={**plan.holders, **holders},
    )
    return vendor.repository.propose_root(plan, clock=vendor.clock)


def test_it_is_played_with_stand_ins(filled: Vendor) -> None:
    before = filled.files()
    told = rehearse(filled.repository, proposed(filled), clock=filled.clock)
    leaves = f"holder A ({key('offline').public_key.keyid[:12]})"
    assert filled.files() == before
    assert told == (
        "copied what stands: root v1, with stand-ins for 6 keys",
        (
            "the root key that leaves must sign it: if it is lost, nobody can adopt "
            "this root"
        ),
        (
            f"holder r-1 signs: old root needs 1 more of keys that leave: {leaves}; "
            "new root needs 1 more of holder r-2, holder r-3"
        ),
        f"holder r-2 signs: old root needs 1 more of keys that leave: {leaves}",
        f"{leaves} signs with a key that leaves: old and new root are complete",
        "finalized: root, and signed again: snapshot v4, timestamp v4",
        "a device that begins at the first root follows",
        "a device with the state before follows",
    )


def test_a_signed_proposal_is_played_as_well(filled: Vendor) -> None:
    signed = proposed(filled).sign(key("offline"))
    told = rehearse(filled.repository, signed, clock=filled.clock)
    assert told[-1] == "a device with the state before follows"


def test_what_is_played_is_what_is_proposed(filled: Vendor) -> None:
    """Not what a plan would make of it: another tool's fields and the times count."""
    ends = filled.clock.now() + timedelta(seconds=90)

    def change(root: dict[str, Any]) -> None:
        root["expires"] = format_time(ends)
        root["x-tool"] = {"days": 3}

    data = edited(proposed(filled).data, change)
    proposal = RootProposal.parse(data, trusted=filled.repository.root)
    told = rehearse(filled.repository, proposal, clock=filled.clock)
    assert "expires in 90 s: devices take nothing then, until a next root" in told
    filled.clock.advance(minutes=2)
    with pytest.raises(RefusedError, match="which is in the past"):
        rehearse(filled.repository, proposal, clock=filled.clock)


def test_what_does_not_verify_is_not_copied(filled: Vendor) -> None:
    proposal = proposed(filled)
    thief.write(filled, {"timestamp.json": b"{}"})
    with pytest.raises(RefusedError, match="can't be copied for a rehearsal"):
        rehearse(filled.repository, proposal, clock=filled.clock)


@pytest.mark.parametrize("profile", ["standard", "simple"])
def test_every_profile(vendor: Vendor, profile: str) -> None:
    vendor.profile = profile
    repository = vendor.create()
    proposal = repository.propose_root(
        repository.plan(clock=vendor.clock), clock=vendor.clock
    )
    told = rehearse(repository, proposal, clock=vendor.clock)
    assert told[-3:] == (
        "finalized: root, and signed again: nothing",
        "a device that begins at the first root follows",
        "a device with the state before follows",
    )
