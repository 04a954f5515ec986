"""Time as a device can know it: a clock that may be wrong, and signed lower bounds.

`now` is the later of the clock and the latest signed time (`x-issued`) that the device
accepted. The signed time is never compared with the clock to refuse anything: a device
without a battery-backed clock would lock itself out. A clock far beyond anything that
was ever signed can't be trusted to call metadata expired.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from margo_supplychain.errors import ClockError, ExpiredError
from margo_supplychain.formats.times import format_time

if TYPE_CHECKING:
    from margo_supplychain.verify.memory import TimeFloor

# A signer's clock may run a little ahead of a healthy device's.
SLACK: Final = timedelta(hours=1)
# Beyond this the clock is broken, not the repository: an unattended device is
# replaced sooner, and root metadata lives two years.
MAX_AHEAD: Final = timedelta(days=3650)


class Clock(Protocol):
    """Where the time comes from."""

    def now(self) -> datetime:
        """Return the time now, aware of its time zone."""


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        """Return the machine's time in UTC."""
        return datetime.now(UTC)


class StoppedClock(NamedTuple):
    """A clock that stands still: one call, or one edit, happens at one time."""

    when: datetime

    def now(self) -> datetime:
        """Return the time."""
        return self.when


class Freshness(Enum):
    """How current the accepted metadata is known to be.

    FRESH: the source answered, and a working clock says that nothing has expired.
    GRACE: the source could not be reached; what was accepted before has not expired.
    UNPROVEN: the clock is behind a signed time or broken: expiry was judged by signed
        times alone.
    """

    FRESH = 1
    GRACE = 2
    UNPROVEN = 3


class Moment(NamedTuple):
    """The time that one call uses.

    Args:
        clock: what the clock said, in UTC.
        floor: the latest signed time known, or None.
    """

    clock: datetime
    floor: datetime | None = None

    @classmethod
    def take(cls, clock: Clock, *floors: TimeFloor | None) -> Moment:
        """Read the clock once.

        Raises:
            ValueError: the clock gives times without a time zone.
        """
        found = clock.now()
        if found.tzinfo is None:
            raise ValueError("a Clock gives aware times")
        moment = cls(clock=found.astimezone(UTC))
        for floor in floors:
            if floor is not None:
                moment = moment.with_floor(floor.when)
        return moment

    def with_floor(self, when: datetime) -> Moment:
        """Return the moment that also knows a signed time."""
        if self.floor is not None and self.floor >= when:
            return self
        return Moment(clock=self.clock, floor=when)

    @property
    def now(self) -> datetime:
        """The later of clock and signed time."""
        return self.clock if self.floor is None else max(self.clock, self.floor)

    @property
    def behind(self) -> bool:
        """Whether the clock is behind a signed time."""
        return self.floor is not None and self.clock < self.floor - SLACK

    @property
    def absurd(self) -> bool:
        """Whether the clock is too far beyond a signed time to be believed."""
        return self.floor is not None and self.clock > self.floor + MAX_AHEAD

    @property
    def believable(self) -> bool:
        """Whether the clock can prove that something is current."""
        return not self.behind and not self.absurd

    def require_unexpired(self, role: str, label: str, expires: datetime) -> None:
        """Refuse metadata whose expiry has been reached (TUF 5.3.10 and others).

        Raises:
            ExpiredError: it expired by the clock or by a signed time.
            ClockError: only a clock that can't be believed says so.
        """
        if self.floor is not None and expires <= self.floor:
            raise ExpiredError(
                f"{label} expired {format_time(expires)}, before the signed time "
                f"{format_time(self.floor)}",
                role=role,
                expires=expires,
                now=self.floor,
            )
        if expires <= self.clock:
            if self.absurd:
                raise ClockError(
                    f"the clock says {format_time(self.clock)}, years after anything "
                    f"signed: it can't tell whether {label} has expired"
                )
            raise ExpiredError(
                f"{label} expired {format_time(expires)}, it is "
                f"{format_time(self.clock)}",
                role=role,
                expires=expires,
                now=self.clock,
            )
