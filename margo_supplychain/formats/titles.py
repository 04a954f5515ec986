"""Names of files inside packages and archives: safe on every file system.

Example:
    >>> safe_title("resources/pump.png")
    'resources/pump.png'
"""

from __future__ import annotations

import re
from typing import Final

from margo_supplychain.errors import OciFormatError

MAX_TITLE: Final = 512
_RESERVED: Final = re.compile(
    r"(?:con|prn|aux|nul|clock\$|com[0-9]|lpt[0-9])(?:\..*)?", re.ASCII | re.IGNORECASE
)


def safe_title(text: str, what: str = "title") -> str:
    """Return `text` if it is a relative path that is safe on every file system.

    Raises:
        OciFormatError: empty, above 512 characters, absolute, with an empty step, `.`
            or `..`, a backslash, a colon, a control character, a name that Windows
            reserves, or a step that ends in a dot or space.
    """
    if not 0 < len(text) <= MAX_TITLE:
        raise OciFormatError(f"{what} has {len(text)} characters, not 1 to {MAX_TITLE}")
    shown = f"{what} {text[:160]!r}"
    if not text.isprintable() or "\\" in text or ":" in text:
        raise OciFormatError(f"{shown} holds a control character, backslash or colon")
    for step in text.split("/"):
        if step in ("", ".", ".."):
            raise OciFormatError(f"{shown} is not a relative, normalised path")
        if step[-1] in ". " or _RESERVED.fullmatch(step) is not None:
            raise OciFormatError(f"{shown} is a reserved name")
    return text


def folded(path: str) -> str:
    """Return what a case-insensitive, normalising file system makes of a path."""
    if path.isascii():
        return path.lower()
    import unicodedata  # not needed on the hot path, whose names are ASCII

    # NFC, fold, NFC: folding can leave a sequence that is not composed (UAX #15).
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())
