r"""Texts of others on a signer's screen: bounded, and each tells itself from another.

What a proposer writes may look like something else: letters of another alphabet, blanks
that are letters, a thousand characters before the one that matters.

Example:
    >>> plain("holder B"), plain("J\u00fcrgen")
    ('holder B', 'Jürgen (J\\xfcrgen)')
"""

from __future__ import annotations

import hashlib
from typing import Final

MOST: Final = 80  # characters that are shown of a text


def plain(text: str) -> str:
    """Return a text as a signer reads it, on one line.

    What is not ASCII stands there again in escapes; of what is long, its length and the
    beginning of its sha256 stand for the rest.
    """
    shown = text[:MOST]
    escaped = ascii(shown)[1:-1]
    if not shown.isprintable():
        shown = escaped
    elif not shown.isascii():
        shown = f"{shown} ({escaped})"
    if len(text) <= MOST:
        return shown
    # A file may hold lone surrogates, which have no UTF-8.
    data = text.encode("utf-8", "surrogatepass")
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{shown}… ({len(text)} characters, sha256 {digest})"


def quoted(text: str) -> str:
    """Return the same in quotes, which nothing of the text closes."""
    escaped = plain(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
