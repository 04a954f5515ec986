r"""OLPC canonical JSON, which TUF's signatures and key ids cover (TUF 4.1, 4.2).

The standard encoder writes the same but for control characters: OLPC escapes the quote
and the backslash alone. Every PEM key holds line ends, so they are put back here; the
reference encoder, in Python, takes twenty times as long.

Example:
    >>> encode({"b": "line\n", "a": 1})
    b'{"a":1,"b":"line\n"}'
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

# A backslash of the standard encoder always begins one of these.
_ESCAPE: Final = re.compile(r"\\(?:u([0-9a-f]{4})|.)")
# `json.dumps` would make one for each of a thousand keys.
_ENCODER: Final = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False
)
_RAW: Final = {r"\n": "\n", r"\r": "\r", r"\t": "\t", r"\b": "\b", r"\f": "\f"}


def encode(value: Mapping[str, Any]) -> bytes:
    """Return the canonical form of parsed JSON without fractions.

    Raises:
        UnicodeEncodeError: it holds a lone surrogate.
    """
    text = _ENCODER.encode(value)
    if "\\\\" not in text and text.count("\\") == text.count("\\n"):
        text = text.replace("\\n", "\n")  # nothing but line ends, as in most metadata
    else:
        text = _ESCAPE.sub(_canonical, text)
    return text.encode("utf-8")


def _canonical(escape: re.Match[str]) -> str:
    text: str = escape.group()
    code: str | None = escape.group(1)
    return _RAW.get(text, text) if code is None else chr(int(code, 16))
