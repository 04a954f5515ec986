"""Fields of documents that others define: SLSA, CycloneDX, SPDX, OpenVEX and CSAF.

Unlike this package's own documents they hold much that nothing here asks for, and
unset, null and empty mean the same (SLSA, "Parsing rules"). What is asked for and has
another type is an error: a field that can't be read is not one that is not there.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from margo_supplychain.errors import StatementFormatError

if TYPE_CHECKING:
    from collections.abc import Mapping

_DATE: Final = r"[0-9]{4}-[0-9]{2}-[0-9]{2}"
_TIME: Final = r"[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
# RFC 3339, which all of these formats name or mean.
_MOMENT: Final = re.compile(
    rf"{_DATE}{_TIME}(?:[Zz]|[+-][0-9]{{2}}:[0-9]{{2}})", re.ASCII
)
_DAY: Final = re.compile(_DATE, re.ASCII)
# What people and tools write where they have nothing to say, in its letters alone; the
# last is what go-vex and vexctl write.
_NOTHING: Final = frozenset(
    {
        *("", "no", "none", "null", "nil", "na", "notavailable", "notapplicable"),
        *("nothing", "unknown", "tbd", "tba", "todo", "undefined", "unspecified"),
        *("noneavailable", "nofix", "nofixplanned", "noaction", "nomitigation"),
        "noactionstatementprovided",
    }
)
_LONGEST_NOTHING: Final = max(map(len, _NOTHING))


def object_in(value: Mapping[str, Any], name: str, *, what: str) -> Mapping[str, Any]:
    """Return a nested object, empty if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise StatementFormatError(f"{what}.{name} is no object")
    return found


def list_in(value: Mapping[str, Any], name: str, *, what: str) -> list[Any]:
    """Return a list, empty if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    found = value.get(name)
    if found is None:
        return []
    if not isinstance(found, list):
        raise StatementFormatError(f"{what}.{name} is no list")
    return found


def objects_in(
    value: Mapping[str, Any], name: str, *, what: str
) -> list[Mapping[str, Any]]:
    """Return a list of objects, empty if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    found = list_in(value, name, what=what)
    if not all(isinstance(one, dict) for one in found):
        raise StatementFormatError(f"{what}.{name} holds what is no object")
    return found


def texts_in(value: Mapping[str, Any], name: str, *, what: str) -> list[str]:
    """Return a list of texts, empty if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    found = list_in(value, name, what=what)
    if not all(isinstance(one, str) for one in found):
        raise StatementFormatError(f"{what}.{name} holds what is no text")
    return found


def text_in(value: Mapping[str, Any], name: str, *, what: str) -> str:
    """Return a text without outer white space, empty if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    found = value.get(name)
    if found is None:
        return ""
    if not isinstance(found, str):
        raise StatementFormatError(f"{what}.{name} is no text")
    return found.strip()


def says(text: str) -> bool:
    """Say whether a text says anything: blanks, signs and `none` do not."""
    letters = (one for one in text if one.isalnum())
    # One more than the longest tells that it is longer.
    beginning = "".join(islice(letters, _LONGEST_NOTHING + 1))
    return beginning.casefold() not in _NOTHING


def moment_in(value: Mapping[str, Any], name: str, *, what: str) -> datetime | None:
    """Return an RFC 3339 time, cut to microseconds; None if it is not there.

    Raises:
        StatementFormatError: it is something else.
    """
    text = text_in(value, name, what=what)
    return parse_moment(text, what=f"{what}.{name}") if text else None


def parse_moment(text: str, *, what: str, day: bool = False) -> datetime:
    """Return an RFC 3339 time as aware UTC.

    Args:
        what: names it in errors.
        day: take a date, too: its beginning.

    Raises:
        StatementFormatError: it is none.
    """
    try:
        if day and _DAY.fullmatch(text) is not None:
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _MOMENT.fullmatch(text) is not None:
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError) as why:
        raise StatementFormatError(f"{what} is {text!r:.60}, which is no time") from why
    raise StatementFormatError(
        f"{what} is {text!r:.60}, not a time like 2026-11-21T10:00:00Z"
    )
