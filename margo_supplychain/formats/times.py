"""RFC 3339 times as TUF writes them (UTC, whole seconds, `Z`), and spans like `14d`.

Example:
    >>> format_time(parse_time("2026-11-21T10:00:00Z", what="example"))
    '2026-11-21T10:00:00Z'
    >>> parse_span("36h", what="example")
    datetime.timedelta(days=1, seconds=43200)
    >>> format_span(timedelta(hours=36))
    '1 day 12 hours'
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

from margo_supplychain.errors import FormatError, MetadataFormatError

_FORM: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII
)
LONGEST_SPAN: Final = timedelta(days=3650)
_SPAN: Final = re.compile(r"(0|[1-9][0-9]{0,8})([smhd])", re.ASCII)
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)


def parse_time(
    text: object, *, what: str, error: type[FormatError] = MetadataFormatError
) -> datetime:
    """Parse `2026-11-21T10:00:00Z` (TUF specification 4.2) into an aware UTC time.

    Raises:
        FormatError: for any other form, an offset, fractions or an impossible date.
    """
    if not isinstance(text, str) or _FORM.fullmatch(text) is None:
        raise error(f"{what} is {text!r:.80}, not a time like 2026-11-21T10:00:00Z")
    try:
        found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as why:
        raise error(f"{what} is {text!r}, which is no date") from why
    if found < EARLIEST:
        raise error(f"{what} is {text!r}, before {EARLIEST.year}")
    return found


def format_time(when: datetime) -> str:
    """Return an aware time as `2026-11-21T10:00:00Z`, cut to whole seconds."""
    # `strftime` writes the year 999 with three digits, which nobody could read back.
    return f"{when.astimezone(UTC).replace(tzinfo=None):%Y-%m-%dT%H:%M:%SZ}".zfill(20)


def parse_span(
    text: object, *, what: str, error: type[FormatError] = FormatError
) -> timedelta:
    """Parse `14d`, `36h`, `90m` or `30s`: a whole number, also 0, and one unit.

    Raises:
        FormatError: for any other form, or above 3650 days.
    """
    found = _SPAN.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise error(f"{what} is {text!r:.60}, expected a time such as 14d or 36h")
    span = timedelta(**{_UNITS[found[2]]: int(found[1])})
    if span > LONGEST_SPAN:
        raise error(f"{what} is {text}, expected a time up to {LONGEST_SPAN.days}d")
    return span


def format_span(span: timedelta) -> str:
    """Return a span as people read it, cut to whole seconds: `1 day 12 hours`."""
    left = int(span.total_seconds())
    said = []
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1)):
        count, left = divmod(left, length)
        if count:
            said.append(f"{count} {unit}{'s'[: count != 1]}")
    return " ".join(said) or "0 seconds"
