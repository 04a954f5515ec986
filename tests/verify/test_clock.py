"""What a device knows of the time: its clock, signed lower bounds, and doubts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from margo_supplychain.errors import ClockError, ExpiredError
from margo_supplychain.verify.clock import MAX_AHEAD, SLACK, Moment, SystemClock
from margo_supplychain.verify.memory import TimeFloor
from tests.world import FixedClock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def floor(when: datetime) -> TimeFloor:
    return TimeFloor(when, frozenset({"a key"}))


def test_without_floors_the_clock_is_the_time() -> None:
    moment = Moment.take(FixedClock(NOON), None, None)
    assert (moment.now, moment.floor) == (NOON, None)
    assert moment.believable
    assert not moment.behind
    assert not moment.absurd


def test_the_later_floor_counts_and_never_moves_back() -> None:
    moment = Moment.take(FixedClock(NOON), floor(NOON + HOUR), floor(NOON - HOUR))
    assert moment.now == NOON + HOUR
    assert moment.with_floor(NOON) is moment
    assert moment.with_floor(NOON + 2 * HOUR).now == NOON + 2 * HOUR


def test_a_clock_in_another_zone_is_the_same_clock() -> None:
    local = NOON.astimezone(timezone(timedelta(hours=9)))
    assert Moment.take(FixedClock(local)).clock == NOON
    assert Moment.take(FixedClock(local)).clock.tzinfo is UTC


def test_a_naive_clock_is_a_mistake() -> None:
    naive = NOON.replace(tzinfo=None)
    with pytest.raises(ValueError, match="aware"):
        Moment.take(FixedClock(naive))


@pytest.mark.parametrize(
    ("off", "behind", "absurd"),
    [
        (-SLACK - timedelta(seconds=1), True, False),
        (-SLACK, False, False),
        (timedelta(), False, False),
        (MAX_AHEAD, False, False),
        (MAX_AHEAD + timedelta(seconds=1), False, True),
    ],
)
def test_when_a_clock_is_believable(off: timedelta, behind: bool, absurd: bool) -> None:
    moment = Moment(clock=NOON + off, floor=NOON)
    assert (moment.behind, moment.absurd) == (behind, absurd)
    assert moment.believable == (not behind and not absurd)


@pytest.mark.parametrize("signed", [None, NOON - HOUR])
def test_expiry_by_the_clock(signed: datetime | None) -> None:
    moment = Moment(clock=NOON, floor=signed)
    moment.require_unexpired("snapshot", "snapshot v1", NOON + timedelta(seconds=1))
    with pytest.raises(
        ExpiredError,
        match=r"^snapshot v1 expired 2026-11-21T12:00:00Z, it is 2026-11-21T12:00:00Z$",
    ) as caught:
        moment.require_unexpired("snapshot", "snapshot v1", NOON)
    assert caught.value.role == "snapshot"
    assert (caught.value.expires, caught.value.now) == (NOON, NOON)


def test_expiry_by_a_signed_time_needs_no_clock() -> None:
    moment = Moment(clock=NOON - 1000 * HOUR, floor=NOON)
    with pytest.raises(ExpiredError, match="before the signed time 2026-11-21T12:00"):
        moment.require_unexpired("root", "root v1", NOON)
    moment.require_unexpired("root", "root v1", NOON + HOUR)


def test_a_broken_clock_expires_nothing() -> None:
    moment = Moment(clock=NOON + MAX_AHEAD + HOUR, floor=NOON)
    with pytest.raises(ClockError, match="can't tell whether root v1 has expired"):
        moment.require_unexpired("root", "root v1", NOON + HOUR)
    moment.require_unexpired("root", "root v1", NOON + MAX_AHEAD + 2 * HOUR)


def test_the_machine_has_a_clock() -> None:
    before = datetime.now(UTC)
    assert before <= SystemClock().now() <= datetime.now(UTC)
