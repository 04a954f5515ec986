"""A repository whose first root was signed apart."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.authoring.proposals import RootProposal, SignedRoot
from margo_supplychain.authoring.repository import Repository
from margo_supplychain.errors import IncompleteError, RefusedError
from tests.authoring.ceremony import keys_of, signed_root
from tests.authoring.trust import Vendor, key

if TYPE_CHECKING:
    from margo_supplychain.authoring.plan import RootPlan


def first(vendor: Vendor, plan: RootPlan, *names: str) -> SignedRoot:
    proposal = RootProposal.first(plan, now=vendor.clock.when)
    for name in names:
        proposal = proposal.sign(key(name))
    return proposal.finalize()


def made(vendor: Vendor, plan: RootPlan, root: SignedRoot, *names: str) -> Repository:
    return Repository.create(
        vendor.trust,
        plan=plan,
        keys=[key(one) for one in names],
        root=root,
        clock=vendor.clock,
    )


def apart(vendor: Vendor) -> RootPlan:
    root = keys_of("r-1", "r-2", "r-3", threshold=2)
    return replace(vendor.plan(), root=root)


def test_no_root_key_is_needed(vendor: Vendor) -> None:
    plan = apart(vendor)
    root = first(vendor, plan, "r-1", "r-3")
    repository = made(vendor, plan, root, "offline", "ci")
    assert repository.root == root.data
    vendor.device().refresh()
    assert repository.check(clock=vendor.clock).violations == ()


def test_without_it_every_role_needs_its_keys(vendor: Vendor) -> None:
    with pytest.raises(IncompleteError, match="root needs 2 more"):
        Repository.create(
            vendor.trust, plan=apart(vendor), keys=vendor.keys, clock=vendor.clock
        )
    assert not vendor.trust.exists()


def test_a_root_that_says_something_else(vendor: Vendor) -> None:
    plan = apart(vendor)
    root = first(vendor, plan, "r-1", "r-2")
    for other, wrong in (
        (replace(plan, root=keys_of("r-1", "r-2", "r-3")), "has other keys of root"),
        (replace(plan, targets=keys_of("t")), "has other keys of targets"),
        (replace(plan, periods={"snapshot": timedelta(days=3)}), "has other periods"),
    ):
        with pytest.raises(RefusedError, match=wrong):
            made(vendor, other, root, "offline", "ci", "t")
    vendor.clock.advance(days=800)
    with pytest.raises(RefusedError, match="expire"):
        made(vendor, plan, root, "offline", "ci")
    assert not vendor.trust.exists()


def test_a_later_root_makes_no_repository(vendor: Vendor) -> None:
    repository = vendor.create()
    root = signed_root(repository, ["offline"], clock=vendor.clock)
    other = Vendor(vendor.directory / "other", clock=vendor.clock)
    with pytest.raises(RefusedError, match="root v2 is no first root"):
        made(other, vendor.plan(), root, "offline", "ci")
