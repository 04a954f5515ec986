r"""TOML, read within a limit and written: every refusal is of one kind.

Example:
    >>> quoted('say "hi"')
    '"say \\"hi\\""'
"""

from __future__ import annotations

import re
from typing import Any, Final

from margo_supplychain.errors import FormatError

MAX_PARTS: Final = 32
# tomllib's time for a dotted key is quadratic. A part is read from its start alone.
_PART: Final = r"""(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.){0,128}+"|'[^'\n]*+')"""
_DEEP: Final = re.compile(
    rf"(?<![A-Za-z0-9_-]){_PART}(?:[ \t]*+\.[ \t]*+{_PART}){{{MAX_PARTS}}}", re.ASCII
)


def parse(
    data: bytes, *, what: str, limit: int, error: type[FormatError] = FormatError
) -> dict[str, Any]:
    """Parse unverified bytes.

    Args:
        data: the file.
        what: names it in errors.
        limit: most bytes.
        error: what is raised.

    Raises:
        FormatError: too large, not UTF-8, no TOML, or what reads like a key of more
            than `MAX_PARTS` parts.
    """
    import tomllib

    if len(data) > limit:
        raise error(f"{what} has {len(data)} bytes, more than the limit of {limit}")
    try:
        text = data.decode("utf-8")
        if _DEEP.search(text) is not None:
            raise error(f"{what} has a key of more than {MAX_PARTS} parts")
        return tomllib.loads(text)
    except UnicodeDecodeError as why:
        raise error(f"{what} is not UTF-8 at byte {why.start}") from why
    except RecursionError as why:  # tomllib recurses into arrays
        raise error(f"{what} is nested too deep") from why
    except ValueError as why:  # TOMLDecodeError, and a number that is too long
        reason = str(why)
        raise error(f"{what} is not TOML: {reason[:1].lower()}{reason[1:]}") from why


def quoted(text: str) -> str:
    r"""Return printable text as a basic string, such as `"a \"b\""`.

    Raises:
        FormatError: empty, or with a character that nobody would see.
    """
    if not text or not text.isprintable():
        raise FormatError(f"{text[:160]!r} is not printable text for a TOML file")
    # What is printable needs no other escape (TOML 1.0, "String").
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
