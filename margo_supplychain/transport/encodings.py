"""Whether an answer's bytes are what was asked for, or an encoding of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def encoding_problem(headers: Mapping[str, str]) -> str | None:
    """Say why a body can't be hashed as it comes.

    Example:
        >>> encoding_problem({"Content-Encoding": "gzip"})
        "came as 'gzip' although identity was asked for"
    """
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding in {"", "identity"}:
        return None
    return f"came as {encoding[:40]!r} although identity was asked for"
