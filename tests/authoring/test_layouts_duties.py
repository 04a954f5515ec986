"""Layouts that end: somebody's duty before devices refuse what was made by them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from margo_supplychain.formats.pins import Pin
from tests.authoring.proving import make_demanding, publish_proven, signed_layout
from tests.authoring.trust import PUMP, Vendor

if TYPE_CHECKING:
    from margo_supplychain.authoring.duties import Duty

WITHIN = timedelta(days=14)


def duty(vendor: Vendor, within: timedelta = WITHIN) -> Duty:
    """Return the duty of the publisher."""
    found = vendor.repository.status(within=within, clock=vendor.clock)
    return next(one for one in found if one.role == "acme")


@pytest.fixture
def demanding(vendor: Vendor) -> Vendor:
    """A vendor whose layout 1 ends on 2028-11-21."""
    return make_demanding(vendor)


def extend(vendor: Vendor, number: int, until: datetime) -> None:
    with vendor.repository.edit(vendor.keys, clock=vendor.clock) as edit:
        policy = edit.policy(PUMP)
        assert policy is not None
        rules = tuple(
            replace(one, expires=until) if one.number == number else one
            for one in policy.layouts
        )
        edit.set_policy(PUMP, replace(policy, layouts=rules))


def test_a_layout_that_lasts_is_nobodys_duty(demanding: Vendor) -> None:
    found = duty(demanding)
    assert (found.due, found.action, found.problem) == (False, None, None)


def test_a_layout_that_ends_is_a_duty(demanding: Vendor) -> None:
    soon = demanding.clock.now() + timedelta(days=3)
    extend(demanding, 1, soon)
    found = duty(demanding)
    assert found.due
    assert found.action == "app policy acme/pump-monitor --layout-expires 1=DATE"
    assert found.problem == ("layout 1 of acme/pump-monitor ends 2026-11-24T10:00:00Z")
    assert found.until == soon
    assert not duty(demanding, timedelta(days=2)).due
    # A role that is due itself is signed again first.
    both = duty(demanding, timedelta(days=400))
    assert (both.action, both.until) == ("repo refresh --role acme", None)
    assert both.problem == found.problem
    # Extended by the policy, though its bytes stay.
    extend(demanding, 1, datetime(2031, 1, 1, tzinfo=UTC))
    assert not duty(demanding).due


def test_what_its_file_says_counts_too(demanding: Vendor) -> None:
    with demanding.repository.edit(demanding.keys, clock=demanding.clock) as edit:
        edit.add_layout(
            PUMP,
            signed_layout(expires="2026-11-25T10:00:00Z"),
            serves=Pin.range("*", grammar="npm"),
        )
    found = duty(demanding)
    assert found.problem == ("layout 2 of acme/pump-monitor ends 2026-11-25T10:00:00Z")
    demanding.clock.advance(days=5)
    found = duty(demanding)
    assert found.problem == (
        "layout 2 of acme/pump-monitor expired 2026-11-25T10:00:00Z"
    )


def test_a_superseded_layout_is_a_duty_until_it_has_ended(demanding: Vendor) -> None:
    publish_proven(demanding, "1.0.0")
    with demanding.repository.edit(demanding.keys, clock=demanding.clock) as edit:
        edit.add_layout(
            PUMP, signed_layout(readme="2"), serves=Pin.range("*", grammar="npm")
        )
    soon = demanding.clock.now() + timedelta(days=3)
    extend(demanding, 1, soon)
    extend(demanding, 2, soon + timedelta(days=1))
    found = duty(demanding)
    assert found.problem is not None
    assert found.problem.endswith("2026-11-24T10:00:00Z, and 1 more until then")
    extend(demanding, 2, datetime(2031, 1, 1, tzinfo=UTC))
    demanding.clock.advance(days=4)
    with demanding.repository.edit(demanding.keys, clock=demanding.clock) as edit:
        edit.refresh()
    assert duty(demanding).problem is None


def test_what_can_not_be_read_is_for_check(demanding: Vendor) -> None:
    for kind in ("layouts", "policies"):
        for path in (demanding.trust / f"targets/acme/{kind}/pump-monitor").iterdir():
            path.write_bytes(b"damaged")
        assert duty(demanding, timedelta(days=1_000)).problem is None
