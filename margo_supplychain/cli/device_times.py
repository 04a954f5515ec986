"""Distances in time, as people say them.

Example:
    >>> span(timedelta(days=3, hours=21, minutes=5)), span(timedelta(minutes=12))
    ('3 d 21 h', '12 min')
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

_MINUTE: Final = 60
_HOUR: Final = 60 * _MINUTE
_DAY: Final = 24 * _HOUR
_LONG: Final = 10 * _DAY  # hours say nothing beside ten days


def span(length: timedelta) -> str:
    """Return a length of time in one or two units, cut, never rounded up."""
    seconds = max(0, int(length.total_seconds()))
    if seconds < _MINUTE:
        return f"{seconds} s"
    if seconds < _HOUR:
        return f"{seconds // _MINUTE} min"
    if seconds < _DAY:
        return f"{seconds // _HOUR} h"
    hours = seconds % _DAY // _HOUR
    if seconds >= _LONG or not hours:
        return f"{seconds // _DAY} d"
    return f"{seconds // _DAY} d {hours} h"


def ago(when: datetime, now: datetime) -> str:
    """Return how long ago something was: `3 h ago`, or `just now`."""
    if now - when < timedelta(minutes=1):
        return "just now"
    return f"{span(now - when)} ago"


def local(when: datetime) -> str:
    """Return a time of day as the clock on the wall shows it."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")
