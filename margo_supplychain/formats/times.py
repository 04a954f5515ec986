"""RFC 3339 times as TUF writes them: UTC, whole seconds, `Z`.

Example:
    >>> format_time(parse_time("2026-11-21T10:00:00Z", what="example"))
    '2026-11-21T10:00:00Z'
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from margo_supplychain.errors import FormatError, MetadataFormatError

_FORM: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z", re.ASCII
)


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
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as why:
        raise error(f"{what} is {text!r}, which is no date") from why


def format_time(when: datetime) -> str:
    """Return an aware time as `2026-11-21T10:00:00Z`, cut to whole seconds."""
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
