"""Words for people: times with their distance, sizes, counts, aligned columns.

JSON never comes from here: it has whole digests and RFC 3339 times in UTC.

Example:
    >>> counted(2, "duty", "duties"), size(41_234)
    ('2 duties', '41 kB')
    >>> span(timedelta(hours=93)), remaining(timedelta(hours=93))
    ('4 days', '3 d 21 h')
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR


def now() -> datetime:
    """Return the machine's time, for distances alone."""
    from margo_supplychain.verify.clock import SystemClock

    return SystemClock().now()


def date(when: datetime) -> str:
    """Return a local date, such as `2026-11-25`."""
    return when.astimezone().strftime("%Y-%m-%d")


def moment(when: datetime) -> str:
    """Return a local time to the minute, such as `2026-11-25 14:03`."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def span(length: timedelta) -> str:
    """Return a length of time in the unit that fits, such as `4 days` or `3 h`."""
    seconds = abs(length.total_seconds())
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * _MINUTE:
        return f"{seconds / _MINUTE:.0f} min"
    if seconds < 36 * _HOUR:
        return f"{seconds / _HOUR:.0f} h"
    return f"{seconds / _DAY:.0f} days"


def remaining(length: timedelta) -> str:
    """Return what is left of a time, cut and never rounded up: `3 d 21 h`."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h"
    hours = seconds % _DAY // _HOUR
    # Hours say nothing beside ten days.
    if seconds >= 10 * _DAY or not hours:
        return f"{seconds // _DAY} d"
    return f"{seconds // _DAY} d {hours} h"


def distance(when: datetime, *, at: datetime) -> str:
    """Return how far away a time is: `in 4 days`, `3 h ago`, `just now`."""
    length = when - at
    if abs(length.total_seconds()) < 1:
        return "just now"
    return f"in {span(length)}" if when > at else f"{span(length)} ago"


def size(length: int) -> str:
    """Return a number of bytes, such as `41 kB`."""
    if length < 1000:
        return f"{length} B"
    shown, units = length / 1000, ["kB", "MB", "GB", "TB"]
    while shown >= 999.5 and len(units) > 1:
        shown, units = shown / 1000, units[1:]
    return f"{shown:.1f} {units[0]}" if shown < 9.95 else f"{shown:.0f} {units[0]}"


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return `1 layer` or `3 layers`."""
    return f"{number} {one if number == 1 else many or f'{one}s'}"


def table(rows: Iterable[Sequence[str]]) -> list[str]:
    """Return rows of cells as aligned lines, two spaces in; the last column is free."""
    found = [tuple(row) for row in rows]
    if not found:
        return []
    columns = max(len(row) for row in found)
    widths = [
        max((len(row[column]) for row in found if column < len(row)), default=0)
        for column in range(columns)
    ]
    return [
        "  "
        + "  ".join(
            f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)
        ).rstrip()
        for row in found
    ]
