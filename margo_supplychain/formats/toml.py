r"""Text as TOML writes it; reading is `tomllib`'s.

Example:
    >>> quoted('say "hi"')
    '"say \\"hi\\""'
"""

from __future__ import annotations

from margo_supplychain.errors import FormatError


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
