"""How a key's name is shown: what somebody put into it by mistake is not repeated.

A URI may hold a PIN (`pin-value`), where none belongs: then it lies in one place, and
must not come into messages, logs of build machines and reports as well. So of a token's
URI only what RFC 7512 lets stand before the `?` is shown, and of any other URI neither
query nor what stands before an `@`. Paths are shown as they are.

Example:
    >>> redacted("pkcs11:token=root-a;object=root?pin-value=1234")
    'pkcs11:token=root-a;object=root?…'
"""

from __future__ import annotations

import re
from typing import Final

MAX_SHOWN: Final = 200  # characters
_HIDDEN: Final = "…"
_URI: Final = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):", re.ASCII)
_TOKEN: Final = "pkcs11"  # noqa: S105 - a kind of URI
_USER: Final = re.compile(r"//[^/@]*@")
# A PIN that was written in the wrong place, or without its name, matches none of them.
_PART: Final = re.compile(
    r"(?:token|manufacturer|serial|model|object|id|type"
    r"|library-(?:manufacturer|description|version)"
    r"|slot-(?:manufacturer|description|id))=(?!.*pin-value).*",
    re.IGNORECASE | re.DOTALL,
)


def redacted(text: str) -> str:
    """Return the name of a key as it may be shown: without PIN, in one bounded line."""
    found = _URI.match(text)
    kind = "file" if found is None else found.group(1).lower()
    if found is None or kind == "file":
        return text[:MAX_SHOWN]
    path, query = _parts(kind, text[found.end() :])
    return f"{found.group(1)}:{path}"[:MAX_SHOWN] + (f"?{_HIDDEN}" if query else "")


def is_bare(uri: str) -> bool:
    """Tell whether a URI names a key and brings nothing with it."""
    kind, _, rest = uri.partition(":")
    return _parts(kind.lower(), rest) == (rest, "")


def _parts(kind: str, rest: str) -> tuple[str, str]:
    """Return what may be shown of a URI, and `?` if there is more."""
    path, query, _ = rest.partition("?")
    if kind == _TOKEN:
        path = ";".join(
            each if _PART.fullmatch(each) else _HIDDEN for each in path.split(";")
        )
    else:
        path = _USER.sub(f"//{_HIDDEN}@", path)
    return path, query
